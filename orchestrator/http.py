"""The one module that talks to providers. It alone decides whether a request may have been sent.

What stands behind `Http.call` can change; nothing outside knows that it is requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.filepost import encode_multipart_formdata
from urllib3.util import Timeout

from orchestrator.config import ProviderSettings
from orchestrator.wire import Call, Reply, dump

#: The largest answer that is read. Bytes.
MAX_ANSWER = 4 * 1024 * 1024
_CHUNK = 64 * 1024
#: A socket that is out of time waits this long. Seconds; 0 would mean not to wait for anything.
_LEAST = 0.01


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request did not reach the provider: it was refused, or had no way there."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request may have reached the provider; no whole answer came back."""

    reason: str


class _Progress(threading.local):
    """Whether the call that this thread is making has begun to send its request, and its end."""

    sent = False
    ends = 0.0


_progress = _Progress()


class _Connection(HTTPConnection):
    """Notes when the first byte of a request goes out: after connecting, before writing.

    A large request may take as long as the call has left, not only as long as connecting may.
    """

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _progress.sent = True
        self.sock.settimeout(max(_progress.ends - time.monotonic(), _LEAST))
        super().send(data)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same, after the TLS handshake."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """Connections that note when they send."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class Http:
    """Pooled connections to the providers, shared by all threads of a process.

    Calls go straight to requests' adapter, without a Session: so no redirect is followed, no
    cookie kept and no proxy or password of the environment used, and a call costs half as much.
    Nothing is retried here.

    Args:
        connect_timeout: seconds.
        read_timeout: seconds for the whole answer, not for each read.
        connections: connections kept per provider.
    """

    def __init__(
        self, *, connect_timeout: float, read_timeout: float, connections: int = 32
    ) -> None:
        self._whole = connect_timeout + read_timeout
        self._timeout = Timeout(total=self._whole, connect=connect_timeout, read=read_timeout)
        self._adapter = _Adapter(pool_maxsize=connections, max_retries=0)

    def call(self, call: Call, provider: ProviderSettings) -> Reply | NotSent | NoAnswer:
        """Make one call with the provider's API key. Never raises for what the network does."""
        request = _prepared(call, provider)
        ends = time.monotonic() + self._whole
        _progress.sent, _progress.ends = False, ends
        try:
            response = self._adapter.send(request, stream=True, timeout=self._timeout)  # type: ignore[arg-type]
        except (requests.RequestException, Urllib3Error) as error:
            return NoAnswer(_cause(error)) if _progress.sent else NotSent(_cause(error))
        with response:
            return _read(response, ends)


def _prepared(call: Call, provider: ProviderSettings) -> requests.PreparedRequest:
    """The call, ready to send. The URL is ours, checked with the settings, and needs no repair."""
    request = requests.PreparedRequest()
    request.method = call.method
    request.url = provider.base_url + call.path
    request.headers = CaseInsensitiveDict(
        {
            "Authorization": f"Bearer {provider.api_key.reveal()}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": "image-orchestrator",
            **call.headers,
        }
    )
    if call.body is not None:
        request.body, request.headers["Content-Type"] = _encoded(call)
        request.headers["Content-Length"] = str(len(request.body))
    return request


def _encoded(call: Call) -> tuple[bytes, str]:
    """A call's body and content type: JSON, or a form that its file goes with."""
    if call.file is None:
        return dump(call.body), "application/json"
    form: dict[str, Any] = {name: _form_value(value) for name, value in call.body.items()}
    form[call.file.form_field] = (call.file.name, call.file.content, call.file.content_type)
    return encode_multipart_formdata(form)


def _form_value(value: Any) -> str | bytes:
    return value if isinstance(value, str) else dump(value)


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


def _cause(error: BaseException) -> str:
    """The kind of failure, without the URL or anything else that was sent."""
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", inner)
    told = reason if isinstance(reason, BaseException) else error
    return type(told.__cause__ or told).__name__
