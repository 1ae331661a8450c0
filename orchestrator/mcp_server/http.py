"""The HTTP form: each agent sends its own API key, which is passed on to the API."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from sse_starlette.sse import AppStatus
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.mcp_server.server import Context, make_server

PATH = "/mcp"
#: Says that the process serves. It needs no key.
HEALTH = "/healthz"
#: The names of this machine. They are always allowed.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
#: The largest request. A prompt has at most 100,000 characters. Bytes.
MAX_BODY_BYTES = 2 * 1024 * 1024
#: Connections of one process. More are answered 503.
MAX_CONNECTIONS = 2000
#: The time for calls that run when the process is told to stop. A wait takes 25 s. Seconds.
STOP_SECONDS = 30


class Gate:
    """Answers 401 to a request without a key, before anything of it is read.

    The API checks the key with every call of a tool. A request that is no POST is answered 405:
    without sessions, there is no stream to open and nothing to end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        answer = _own_answer(scope) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)


def _own_answer(scope: Scope) -> Response | None:
    """Return the answer to a request that the MCP server does not get, or None."""
    if scope["path"] == HEALTH:
        return PlainTextResponse("ok")
    if _bearer(Headers(scope=scope)) is None:
        challenge = {"WWW-Authenticate": 'Bearer realm="orchestrator"'}
        return _problem(401, "The header Authorization: Bearer KEY is required", challenge)
    if scope["method"] != "POST":
        return _problem(405, f"{PATH} accepts POST only", {"Allow": "POST"})
    return None


def _problem(status: int, detail: str, headers: dict[str, str]) -> Response:
    title = HTTPStatus(status).phrase
    kind = f"urn:orchestrator:problem:{title.lower().replace(' ', '-')}"
    document = {"type": kind, "title": title, "status": status, "detail": detail}
    return JSONResponse(document, status, headers, media_type="application/problem+json")


def _bearer(headers: Any) -> str | None:
    """Return the key in a header `Authorization: Bearer KEY`, or None."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    is_key = scheme.lower() == "bearer" and key.isascii() and key.isprintable()
    return key.strip() or None if is_key else None


def _key_of(context: Context) -> str | None:
    """Return the key of the request that carries this call. Another request's key never counts."""
    return _bearer(context.request.headers) if context.request else None


def app(base_url: str, hosts: Sequence[str]) -> ASGIApp:
    """Return the application.

    Args:
        base_url: the address of the HTTP API.
        hosts: more names under which agents reach us. A request for another name is refused: a
            web page could otherwise reach us through a name of its own (DNS rebinding).
    """
    names = [name for host in (*LOOPBACK, *hosts) for name in (host, f"{host}:*")]
    security = TransportSecuritySettings(
        allowed_hosts=names,
        allowed_origins=[f"{scheme}://{name}" for name in names for scheme in ("http", "https")],
    )
    return Gate(
        make_server(base_url, _key_of).streamable_http_app(
            streamable_http_path=PATH,
            stateless_http=True,  # a session would belong to the key of its first request
            max_request_body_size=MAX_BODY_BYTES,
            transport_security=security,
        )
    )


def serve(base_url: str, hosts: Sequence[str], host: str, port: int) -> None:
    """Serve until SIGTERM. Then the current calls end first."""
    AppStatus.enable_automatic_graceful_drain = False  # it ends the answers of older clients
    uvicorn.run(
        app(base_url, hosts),
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
