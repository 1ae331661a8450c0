"""The HTTP client for provider APIs. It alone decides whether a request may have been sent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.filepost import encode_multipart_formdata

from orchestrator.jsonio import dump
from orchestrator.net.deadline import ActiveCall, DeadlineAdapter, Request, innermost, prepared
from orchestrator.net.guard import Target
from orchestrator.net.http_types import Call, Reply
from orchestrator.providers.base import Provider
from orchestrator.security.secret import Secret

#: The largest answer that is read: one with an image of 64 MiB in base64 inside. Bytes.
MAX_ANSWER_BYTES = 96 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}


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
        connections: idle connections kept per provider.
    """

    def __init__(
        self, *, connect_timeout: float, read_timeout: float, connections: int = 32
    ) -> None:
        self._connect_timeout = connect_timeout
        self._seconds = connect_timeout + read_timeout
        self._adapter = DeadlineAdapter(connections)

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
            fresh_connection: use no idle connection, because the call must not be repeated.
        """
        active = ActiveCall(
            time.monotonic() + self._seconds,
            self._connect_timeout,
            # The provider may close an idle connection just as the request is sent. Nobody knows
            # then whether the request arrived, and without a key it cannot be sent again.
            fresh_connection=fresh_connection,
        )
        request = _request(provider.authorize(call, api_key), base_url)
        try:
            response = self._adapter.exchange(request, active)
        except (requests.RequestException, Urllib3Error, OSError) as error:
            reason = type(innermost(error)).__name__
            return NoAnswer(reason) if active.sent else NotSent(reason)
        with response:
            return _read(response, active)


def _request(call: Call, base_url: str) -> Request:
    target = _target(base_url + call.path)
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": "image-orchestrator",
        **call.headers,
    }
    request = prepared(call.method, target, headers)
    if call.body is not None:
        request.body, request.headers["Content-Type"] = _encoded(call)
        request.headers["Content-Length"] = str(len(request.body))
    return request


def _target(url: str) -> Target:
    """Read a URL that starts with a base URL of the settings, which checked it."""
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return Target(parts.scheme, parts.hostname or "", port, path)


def _encoded(call: Call) -> tuple[bytes, str]:
    """Return body and content type: JSON, or a multipart form with the call's file."""
    if call.file is None:
        return dump(call.body), "application/json"
    form: dict[str, Any] = {name: _form_value(value) for name, value in call.body.items()}
    form[call.file.form_field] = (call.file.name, call.file.content, call.file.content_type)
    return encode_multipart_formdata(form)


def _form_value(value: Any) -> str | bytes:
    return value if isinstance(value, str) else dump(value)


def _read(response: requests.Response, call: ActiveCall) -> Reply | NoAnswer:
    body = bytearray()
    try:
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                return NoAnswer(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
    except (Urllib3Error, OSError) as error:
        if time.monotonic() >= call.ends:
            return NoAnswer("the answer did not end in time")
        return NoAnswer(f"the answer broke off: {type(innermost(error)).__name__}")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, bytes(body))
