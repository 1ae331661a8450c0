"""`/docs`: the API's description for people, with Swagger UI. `/llms.txt`: for language models.

Nothing comes from another host.

Swagger UI 5.35.0 is copied unchanged from the npm package `swagger-ui-dist`, with its licences.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

FOLDER = Path(__file__).with_name("swagger_ui")
#: The files of the page, and their content types.
FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
}
#: The text for language models. docs/llms.txt is the same file.
LLMS_TXT = Path(__file__).with_name("llms.txt")
#: Browsers may keep a file for a day. Seconds.
CACHE_SECONDS = 86_400
#: Swagger UI sets styles of elements. Its pictures are data URLs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def blueprint() -> Blueprint:
    """Return the routes."""
    documentation = Blueprint("documentation", __name__)

    @documentation.get("/docs")
    def page() -> Response:
        """The page."""
        return _answer(FOLDER / "index.html", "text/html")

    @documentation.get("/docs/<name>")
    def file(name: str) -> Response:
        """A file of the page."""
        if name not in FILES:
            raise NotFound
        response = _answer(FOLDER / name, FILES[name])
        response.cache_control.max_age = CACHE_SECONDS
        return response

    @documentation.get("/llms.txt")
    def language_models() -> Response:
        """What language models should know of the product."""
        return _answer(LLMS_TXT, "text/plain")

    return documentation


def _answer(file: Path, content_type: str) -> Response:
    content, tag = _content(file)
    response = Response(content, mimetype=content_type)
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.set_etag(tag)
    response.make_conditional(request)
    return response


@cache
def _content(file: Path) -> tuple[bytes, str]:
    """Return a file and its digest. Nobody needs a key, so a request must not cost a digest."""
    content = file.read_bytes()
    return content, sha256(content).hexdigest()
