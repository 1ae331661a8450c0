"""A browser without scripts, for tests of pages and forms that need no real one."""

from __future__ import annotations

import re
from copy import copy
from html import unescape
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from tests.api.conftest import ADMIN_KEY, KEY
from tests.support.fakes import Harness
from tests.support.web import WebApp
from webhooks.app import create_app

#: Text of somebody else: HTML, ANSI, right-to-left and zero-width characters, and its great length.
HOSTILE = (
    "<script>alert(1)</script> \x1b[31mred \u202egnp.exe zero\u200bwidth {{ 7*7 }} " + "x" * 20_000
)


class Visitor:
    """A browser without scripts, with the application of a harness.

    Args:
        harness: of the test.
        own: the application is new. So pages have no figures of another test, kept for a moment.
    """

    def __init__(self, harness: Harness, *, own: bool = False) -> None:
        self.harness = harness
        self._own = create_app(harness.runtime) if own else None
        self.client = self._client()

    @property
    def app(self) -> Flask:
        return self._own or WebApp(self.harness.runtime).app()

    def _client(self) -> FlaskClient:
        if self._own:
            return self._own.test_client()
        return WebApp(self.harness.runtime).test_client(cookies=True)

    def sign_in(self, key: str = ADMIN_KEY, **options: Any) -> Any:
        return self.client.post("/sign-in", data={"key": key}, **options)

    def signed_in(self, key: str = ADMIN_KEY) -> Visitor:
        """Return this visitor after the sign-in with a key."""
        self.client = self._client()
        assert self.sign_in(key).status_code == 303
        return self

    def other(self, key: str) -> Visitor:
        """Return another person at the same application."""
        return copy(self).signed_in(key)

    def status(self, path: str = "/") -> int:
        return self.client.get(path).status_code

    def text(self, path: str, status: int = 200, *, live: bool = False) -> str:
        """Return a page, or its live part."""
        answer = self.client.get(path, headers={"HX-Request": "true"} if live else {})
        assert answer.status_code == status, answer.text
        return answer.text

    def live(self, path: str, tag: str = "") -> Any:
        """Ask for the live part of a page again."""
        headers = {"HX-Request": "true", **({"If-None-Match": tag} if tag else {})}
        return self.client.get(path, headers=headers)

    def read(self, path: str) -> str:
        """Return a page as people read it: without the escapes of HTML."""
        return unescape(self.text(path))

    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.client.get("/").text)
        assert found
        return found[1]

    def send(self, path: str, data: Any = None) -> Any:
        """Send a form of this session."""
        return self.client.post(path, data={**(data or {}), "csrf": self.csrf()})

    def acted(self, path: str, **fields: str) -> str:
        """Send a form, and return the page to which the answer leads."""
        answer = self.send(path, fields)
        assert answer.status_code == 303, answer.text
        return self.text(answer.headers["Location"])


def tenant(harness: Harness) -> Visitor:
    """Return the owner of the first tenant's key, signed in."""
    return Visitor(harness).signed_in(KEY)


def admin(harness: Harness) -> Visitor:
    """Return an administrator, signed in."""
    return Visitor(harness).signed_in(ADMIN_KEY)


def assert_harmless(page: str) -> None:
    """Check that a page shows HOSTILE: as text, with visible control characters, and cut."""
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert r"\u202e" in page
    assert not set("\x1b\u202e\u200b") & set(page)
    assert "x" * 2100 not in page
