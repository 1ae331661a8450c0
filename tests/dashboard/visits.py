"""A browser without scripts, for tests of what the server answers."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.dashboard.sessions import COOKIE
from tests.api.conftest import ADMIN_KEY, KEY
from tests.support.fakes import Harness
from tests.support.web import WebApp


class Visit:
    """The dashboard as the owner of a key sees it."""

    def __init__(self, harness: Harness, key: str | None = KEY) -> None:
        self.harness = harness
        self.client = WebApp(harness.runtime).test_client(cookies=True)
        if key:
            self.client.post("/sign-in", data={"key": key})
            assert self.client.get_cookie(COOKIE)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers)

    def live(self, path: str, tag: str = "") -> Any:
        """Ask for the live part of a page again."""
        headers = {"HX-Request": "true", **({"If-None-Match": tag} if tag else {})}
        return self.client.get(path, headers=headers)

    def text(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        return str(answer.text)

    def post(self, path: str, **fields: str) -> Any:
        """Send a form of a page. It has the CSRF token of the session."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.client.get("/").text)
        assert found
        return self.client.post(path, data={"csrf": found[1], **fields})

    def acted(self, path: str, **fields: str) -> str:
        """Send a form, and return the page to which the answer leads."""
        answer = self.post(path, **fields)
        assert answer.status_code == 303, answer.text
        return self.text(answer.headers["Location"])


def admin(harness: Harness) -> Visit:
    return Visit(harness, ADMIN_KEY)
