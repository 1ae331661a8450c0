"""The HTTP client for provider APIs. It alone decides whether a request may have been sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from urllib3.filepost import encode_multipart_formdata

from orchestrator.jsonio import dump
from orchestrator.net.http_types import Call, Reply
from orchestrator.net.proxy import Proxy
from orchestrator.net.transfer import Request
from orchestrator.net.transfers import DEFAULT_CA_BUNDLE, Transfers
from orchestrator.providers.base import Provider
from orchestrator.security.secret import Secret

#: The largest answer that is read: one with an image of 64 MiB in base64 inside. Bytes.
MAX_ANSWER_BYTES = 96 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request did not reach the provider: no connection was made."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request may have reached the provider. No whole answer came back."""

    reason: str


class ProviderClient:
    """Pooled connections to the providers, shared by all threads of a process.

    The client retries nothing and follows no redirect.

    Args:
        connect_timeout: seconds for connecting, TLS included.
        read_timeout: seconds for the whole answer. The whole call ends after
            `connect_timeout + read_timeout`.
        connections: idle connections kept for all providers.
        ca_bundle: a file with the authorities that are trusted.
        proxy: opens the connections to providers that are not private.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        read_timeout: float,
        connections: int = 32,
        ca_bundle: str = DEFAULT_CA_BUNDLE,
        proxy: Proxy | None = None,
    ) -> None:
        self._transfers = Transfers(
            ca_bundle=ca_bundle,
            proxy=proxy,
            connect_timeout=connect_timeout,
            seconds=connect_timeout + read_timeout,
            connections=connections,
        )

    def call(
        self,
        provider: Provider,
        call: Call,
        *,
        base_url: str,
        api_key: Secret,
        fresh_connection: bool = False,
    ) -> Reply | NotSent | NoAnswer:
        """Make one call, authorised by the provider's adapter. Network errors are not raised.

        Args:
            provider: the adapter, which adds the API key to the call.
            call: what to send.
            base_url: scheme, host and optional path, without a slash at the end.
            api_key: of our account at the provider.
            fresh_connection: use no idle connection, because the call must not be repeated. The
                provider may close an idle connection just as the request is sent. Nobody knows
                then whether the request arrived, and without a key it cannot be sent again.
        """
        request = _request(provider.authorize(call, api_key), base_url, fresh_connection)
        transfer = self._transfers.exchange(request, MAX_ANSWER_BYTES)
        if transfer.failure is None:
            return Reply(transfer.status, transfer.headers, bytes(transfer.body))
        if not transfer.sent:
            return NotSent(transfer.failure)
        if transfer.too_large:
            return NoAnswer(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        return NoAnswer(
            "the answer did not end in time" if transfer.timed_out else transfer.failure
        )


def _request(call: Call, base_url: str, fresh_connection: bool) -> Request:
    headers = {"Accept": "application/json", "User-Agent": "image-orchestrator", **call.headers}
    body = None
    if call.body is not None:
        body, headers["Content-Type"] = _encoded(call)
    return Request(call.method, base_url + call.path, headers, body, fresh_connection)


def _encoded(call: Call) -> tuple[bytes, str]:
    """Return body and content type: JSON, or a multipart form with the call's file."""
    if call.file is None:
        return dump(call.body), "application/json"
    form: dict[str, Any] = {name: _form_value(value) for name, value in call.body.items()}
    form[call.file.form_field] = (call.file.name, call.file.content, call.file.content_type)
    return encode_multipart_formdata(form)


def _form_value(value: Any) -> str | bytes:
    return value if isinstance(value, str) else dump(value)
