"""Scripts, styles and pictures of the dashboard. Browsers keep them, and get them compressed.

htmx 4.0.1 with its extension hx-csp, and uPlot 1.6.32 are copied from npm with their licences. Only
the lines that name source maps were removed.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path

from flask import Blueprint, Response, request, url_for
from werkzeug.exceptions import NotFound

from orchestrator.api.auth import DASHBOARD

FOLDER = Path(__file__).with_name("static")
#: Browsers may keep a file for this time, because its URL has a version. Seconds.
CACHE_SECONDS = 31_536_000


@dataclass(frozen=True, slots=True)
class Asset:
    """A file: its content as it is and compressed, and its type."""

    content: bytes
    compressed: bytes
    content_type: str


def add_to(pages: Blueprint, _runtime: object) -> None:
    """Add the route. It needs no session."""

    @pages.get("/static/<path:name>")
    def file(name: str) -> Response:
        """A file."""
        asset = assets().get(name)
        if asset is None:
            raise NotFound
        response = Response(asset.content, mimetype=asset.content_type)
        if request.accept_encodings["gzip"] > 0:
            response.set_data(asset.compressed)
            response.headers["Content-Encoding"] = "gzip"
        response.vary.add("Accept-Encoding")
        response.cache_control.public = response.cache_control.immutable = True
        response.cache_control.max_age = CACHE_SECONDS
        return response


def asset_url(name: str) -> str:
    """Return the URL of a file. It changes with the content of the files."""
    return url_for(f"{DASHBOARD}.file", name=name, v=_version())


@cache
def assets() -> dict[str, Asset]:
    """Return the files by their paths in the folder."""
    paths = sorted(path for path in FOLDER.rglob("*") if path.is_file())
    return {path.relative_to(FOLDER).as_posix(): _read(path) for path in paths}


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    content_type = guess_type(path.name)[0] or "text/plain"
    return Asset(content, gzip.compress(content, mtime=0), content_type)


@cache
def _version() -> str:
    return sha256(b"".join(asset.content for asset in assets().values())).hexdigest()[:12]
