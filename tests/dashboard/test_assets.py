"""The files of the dashboard are small over the wire, kept by browsers, and as npm has them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from hashlib import sha256

import pytest

from orchestrator.dashboard.assets import FOLDER
from tests.dashboard.visitor import Visitor
from tests.support.fakes import Harness

#: The most that all scripts of a page may take over the wire. Bytes.
MAX_SCRIPT_BYTES = 100_000
#: The digests of the files of npm, without the lines that name source maps.
VENDORED = {
    "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "hx-csp.min.js": "a7e1e6711ae6c3e50ad300fba7936cbe8d07599cdae313414a179ddd6b26e143",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


@pytest.fixture
def visitor(start: Callable[..., Harness]) -> Visitor:
    return Visitor(start()).signed_in()


def test_the_scripts_of_a_page_are_small_and_kept(visitor: Visitor) -> None:
    total = 0
    urls = re.findall(r'<script nonce="[^"]+" src="([^"]+)"', visitor.text("/"))
    assert len(urls) == 5
    for url in urls:
        answer = visitor.client.get(url, headers={"Accept-Encoding": "gzip, br"})
        plain = visitor.client.get(url)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.data) == plain.data
        assert "Content-Encoding" not in plain.headers
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert "immutable" in answer.headers["Cache-Control"]
        assert "no-store" not in answer.headers["Cache-Control"]
        total += len(answer.data)
    assert total < MAX_SCRIPT_BYTES


@pytest.mark.parametrize("name", ["../__init__.py", "..%2f__init__.py", "%2fetc%2fpasswd", "x.js"])
def test_no_other_file_is_served(visitor: Visitor, name: str) -> None:
    assert visitor.client.get(f"/static/{name}", follow_redirects=True).status_code == 404


@pytest.mark.parametrize("name", VENDORED)
def test_a_vendored_file_is_unchanged(name: str) -> None:
    content = (FOLDER / "vendor" / name).read_bytes()

    assert sha256(content).hexdigest() == VENDORED[name]
