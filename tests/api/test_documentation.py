"""`/docs`: Swagger UI, from our own files only."""

from __future__ import annotations

import re

import pytest

from orchestrator.api.documentation import FILES, FOLDER
from tests.api.conftest import Api


def test_the_page_needs_no_key_and_loads_only_our_files(api: Api) -> None:
    client = api.app.test_client()
    page = client.get("/docs")

    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    linked = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    assert {*linked} == {"openapi.json", *(f"docs/{name}" for name in FILES)}
    for path in linked:
        assert client.get(f"/{path}").status_code == 200


def test_it_asks_no_other_host(api: Api) -> None:
    assert "validatorUrl: null" in (FOLDER / "start.js").read_text()
    assert "connect-src 'self'" in api.get("/docs").headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["index.html", "LICENSE", "..%2F__init__.py", "none.js"])
def test_other_files_are_not_served(api: Api, name: str) -> None:
    assert api.get(f"/docs/{name}").status_code == 404
