"""`X-Request-ID`: every answer has one, and every log line of its request.

A caller may choose it. So a caller's log, a proxy's log and ours can be compared.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask
from structlog import contextvars

HEADER = "X-Request-ID"
#: What a caller may choose. Other text is replaced, because it goes into logs and headers.
CHOSEN = re.compile(r"[A-Za-z0-9_.:/+=-]{1,128}")

_App = Callable[[Any, Any], Iterable[bytes]]


class RequestIds:
    """Gives every request of an application an id. It is no Flask hook, which takes longer.

    Args:
        app: the application.
    """

    def __init__(self, app: _App) -> None:
        self._app = app

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        request_id = chosen(environ.get("HTTP_X_REQUEST_ID"))

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, (HEADER, request_id)], *more)

        tokens = contextvars.bind_contextvars(request=request_id)
        try:
            return self._app(environ, start)
        finally:
            contextvars.reset_contextvars(**tokens)


def chosen(wanted: str | None) -> str:
    """Return the id that a caller chose, or a new one."""
    return wanted if wanted and CHOSEN.fullmatch(wanted) else f"req_{secrets.token_hex(12)}"


def install(app: Flask) -> None:
    """Give every request of `app` an id."""
    app.wsgi_app = RequestIds(app.wsgi_app)  # type: ignore[method-assign]
