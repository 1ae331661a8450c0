"""`X-Request-ID`: every answer has one, and every log line of its request.

A caller may choose it. So a caller's log, a proxy's log and ours can be compared.
"""

from __future__ import annotations

import re
import secrets

from flask import Flask, Response, g, request
from structlog import contextvars

HEADER = "X-Request-ID"
#: What a caller may choose. Other text is replaced, because it goes into logs and headers.
CHOSEN = re.compile(r"[A-Za-z0-9_.:/+=-]{1,128}")


def install(app: Flask) -> None:
    """Give every request of `app` an id."""

    @app.before_request
    def begin() -> None:
        chosen = request.headers.get(HEADER, "")
        g.request_id = chosen if CHOSEN.fullmatch(chosen) else f"req_{secrets.token_hex(12)}"
        contextvars.bind_contextvars(request=g.request_id)

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers[HEADER] = g.request_id
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        contextvars.unbind_contextvars("request")
