"""The HTTP form: each agent sends its own API key, which is passed on to the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
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


class RequireKey:
    """Answers 401 to a request without a key, before anything of it is read.

    The API checks the key with every call of a tool.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and scope["path"] == HEALTH:
            await PlainTextResponse("ok")(scope, receive, send)
        elif scope["type"] != "http" or _bearer(Headers(scope=scope)):
            await self._app(scope, receive, send)
        else:
            problem = {
                "type": "urn:orchestrator:problem:unauthorized",
                "title": "Unauthorized",
                "status": 401,
                "detail": "The header Authorization: Bearer KEY is required",
            }
            challenge = {"WWW-Authenticate": 'Bearer realm="orchestrator"'}
            kind = "application/problem+json"
            await JSONResponse(problem, 401, challenge, media_type=kind)(scope, receive, send)


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
    return RequireKey(
        make_server(base_url, _key_of).streamable_http_app(
            streamable_http_path=PATH,
            stateless_http=True,  # a session would belong to the key of its first request
            max_request_body_size=MAX_BODY_BYTES,
            transport_security=security,
        )
    )


def serve(base_url: str, hosts: Sequence[str], host: str, port: int) -> None:
    """Serve until SIGTERM."""
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
