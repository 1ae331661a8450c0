"""The one module that talks to providers. It alone decides whether a request may have been sent.

What stands behind `Http.call` can change; nothing outside knows that it is requests.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import HTTPError as Urllib3Error

from orchestrator.config import ProviderSettings
from orchestrator.wire import Call, Reply, dump

#: The largest answer that is read. Bytes.
MAX_ANSWER = 4 * 1024 * 1024
_CHUNK = 64 * 1024
#: Failures of these kinds happen before the request's first byte goes out.
_BEFORE_SENDING = (
    NewConnectionError,
    ConnectTimeoutError,
    NameResolutionError,
    SSLError,
    ProxyError,
)


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request did not reach the provider: it was refused, or had no way there."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request may have reached the provider; no whole answer came back."""

    reason: str


class Http:
    """Pooled connections to the providers, shared by all threads of a process.

    Redirects are not followed, cookies not kept, proxies of the environment not used: an API call
    goes where the settings say. Nothing is retried here.

    Args:
        connect_timeout: seconds.
        read_timeout: seconds for the whole answer, not for each read.
        connections: connections kept per provider.
    """

    def __init__(
        self, *, connect_timeout: float, read_timeout: float, connections: int = 32
    ) -> None:
        self._timeout = (connect_timeout, read_timeout)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = HTTPAdapter(pool_maxsize=connections, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def call(self, call: Call, provider: ProviderSettings) -> Reply | NotSent | NoAnswer:
        """Make one call with the provider's API key. Never raises for what the network does."""
        headers = {
            "Authorization": f"Bearer {provider.api_key.reveal()}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            **call.headers,
        }
        ends = time.monotonic() + sum(self._timeout)
        try:
            response = self._session.request(
                call.method,
                provider.base_url + call.path,
                headers=headers,
                data=None if call.body is None else dump(call.body),
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            return NotSent(_cause(error)) if _before_sending(error) else NoAnswer(_cause(error))
        with response:
            return _read(response, ends)


def _read(response: requests.Response, ends: float) -> Reply | NoAnswer:
    body = bytearray()
    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > MAX_ANSWER:
                return NoAnswer(f"the answer is larger than {MAX_ANSWER} bytes")
            if time.monotonic() > ends:
                return NoAnswer("the answer did not end in time")
    except (Urllib3Error, OSError) as error:
        return NoAnswer(f"the answer broke off: {type(error).__name__}")
    return Reply(response.status_code, _lower(response.headers), bytes(body))


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _before_sending(error: BaseException) -> bool:
    """Whether the failure, or what it wraps, happened before anything went out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _BEFORE_SENDING | requests.exceptions.InvalidURL):
            return True
        inner = seen.args[0] if seen.args and isinstance(seen.args[0], BaseException) else None
        seen = inner or getattr(seen, "reason", None)
        if not isinstance(seen, BaseException):
            return False
    return False


def _cause(error: BaseException) -> str:
    """The kind of failure, without the URL or anything else that was sent."""
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", inner)
    deepest = reason if isinstance(reason, BaseException) else error
    return type(deepest).__name__
