"""Serves the application below a path: that of the public URL, as in `https://example.com/images`.

A proxy may remove this path from a request or leave it. The routes know nothing of it: what an
answer names as a path gets it here or from Flask, which reads `SCRIPT_NAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from flask import Flask

Environ = dict[str, Any]


def install(app: Flask, public_url: Callable[[], str | None]) -> None:
    """Put the path of the public URL before the paths of `app`, whose routes must all be there."""
    inner, own = app.wsgi_app, {_first_part(rule.rule) for rule in app.url_map.iter_rules()}

    def prefixed(environ: Environ, start_response: Any) -> Iterable[bytes]:
        prefix = path_of(public_url())
        if not prefix:
            return inner(environ, start_response)
        environ["SCRIPT_NAME"] = _in_environ(prefix)
        if _first_part(prefix) not in own:
            environ["PATH_INFO"] = without(_in_environ(prefix), environ["PATH_INFO"])

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            # A redirect to a page is made by Flask, which has put the prefix before it.
            if not status.startswith("3"):
                headers = [(name, _after(prefix, name, value)) for name, value in headers]
            return start_response(status, headers, *more)

        return inner(environ, start)

    app.wsgi_app = prefixed  # type: ignore[method-assign]


@lru_cache(maxsize=8)
def path_of(public_url: str | None) -> str:
    """Return the path of the public URL, or an empty text."""
    return urlsplit(public_url or "").path.rstrip("/")


def without(prefix: str, path: str) -> str:
    """Return the path of a request without a prefix, which the proxy may have removed."""
    if path == prefix:
        return "/"
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def _after(prefix: str, name: str, value: str) -> str:
    return prefix + value if name == "Location" and value.startswith("/") else value


@lru_cache(maxsize=8)
def _in_environ(prefix: str) -> str:
    """Return a path as PEP 3333 wants it: its bytes, each as one character."""
    return unquote(prefix, "latin-1")


def _first_part(path: str) -> str:
    return path.split("/")[1]
