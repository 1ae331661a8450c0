"""Links that a browser would open become one absolute URL. Everything else is None."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.net import links
from orchestrator.net.guard import Forbidden, Guard
from orchestrator.net.links import MAX_LINK_CHARACTERS, normalized_link
from tests.support.strategies import CHARACTERS, TEXT

PLAIN = "https://cdn.example.com/x.png"

#: What a provider may send -> what a browser opens.
OPENED = {
    "a plain link": (PLAIN, PLAIN),
    "http stays http": ("http://cdn.example.com/x.png", "http://cdn.example.com/x.png"),
    "scheme and host in upper case": ("HTTPS://CDN.Example.COM/X.png", "https://cdn.example.com/X.png"),
    "a host in upper case": ("https://CDN.example.com/x.png", PLAIN),
    "white space at the ends": (f" \t{PLAIN}\r\n", PLAIN),
    "control characters and a BOM at the ends": (f"\ufeff\x00{PLAIN}\u200b\xa0\x1f", PLAIN),
    "line breaks inside": ("https://cdn.exa\nmple.com/x\t.p\rng", PLAIN),
    "scheme-relative": ("//cdn.example.com/x.png", PLAIN),
    "backslashes": ("https:\\\\cdn.example.com\\a\\b.png", "https://cdn.example.com/a/b.png"),
    "one slash": ("https:/cdn.example.com/x.png", PLAIN),
    "too many slashes": ("https:////cdn.example.com/x.png", PLAIN),
    "a blank": ("https://cdn.example.com/my cat.png", "https://cdn.example.com/my%20cat.png"),
    "a blank in the query": ("https://e.example/a?n=my cat", "https://e.example/a?n=my%20cat"),
    "non-ASCII": ("https://e.example/é/猫.png?q=ü", "https://e.example/%C3%A9/%E7%8C%AB.png?q=%C3%BC"),
    "already encoded": ("https://e.example/a%20b%2Fc.png?s=%2B%3d", "https://e.example/a%20b%2Fc.png?s=%2B%3d"),
    "half encoded": ("https://e.example/a%20b c%zz", "https://e.example/a%20b%20c%zz"),
    "a signed query": (f"{PLAIN}?Signature=a/b+c==&e=1,2;3", f"{PLAIN}?Signature=a/b+c==&e=1,2;3"),
    "an international host": ("https://bücher.example/a.png", "https://xn--bcher-kva.example/a.png"),
    "full-width dots": ("https://cdn。example。com/x.png", PLAIN),
    "an emoji host": ("https://😺.example/a", "https://xn--138h.example/a"),
    "an underscore": ("https://my_cdn.example/a.png", "https://my_cdn.example/a.png"),
    "a default port": ("https://cdn.example.com:443/x.png", PLAIN),
    "an empty port": ("https://cdn.example.com:/x.png", PLAIN),
    "another port": ("https://cdn.example.com:8443/x.png", "https://cdn.example.com:8443/x.png"),
    "no path": ("https://e.example", "https://e.example/"),
    "a query without a path": ("https://e.example?a=1", "https://e.example/?a=1"),
    "IPv6": ("https://[2606:4700::1111]/a.png", "https://[2606:4700::1111]/a.png"),
    "dot segments": ("https://e.example/a/./b/../c.png", "https://e.example/a/c.png"),
    "a lone surrogate": ("https://e.example/\ud83d.png", "https://e.example/%EF%BF%BD.png"),
    "a user": ("https://user:pass@e.example/a", "https://user:pass@e.example/a"),
    "brackets and quotes": ('https://e.example/<a>"b".png', "https://e.example/%3Ca%3E%22b%22.png"),
}  # fmt: skip

#: No http(s) link.
NONE = [
    "", " ", "x", "cdn.example.com/x.png", "/x.png", "ftp://e.example/a", "javascript:alert(1)",
    "file:///etc/passwd", "data:image/png;base64,AAAA", "https://", "https:///", "//", "https://?a",
    "https://:443/a", "https://e.example:99999/a", "https://e.example:x/a", "https://e example/a",
    "https://a%00b/a", "https://[x]/a", "https://[::1/a", "https://e.example:0/a", "blob:https://e/a",
    "https://e<x>.example/a", "https://" + "a" * MAX_LINK_CHARACTERS,
    "https://e.example/" + "é" * (MAX_LINK_CHARACTERS // 5),
]  # fmt: skip


def test_a_link_becomes_what_a_browser_opens() -> None:
    for case, (text, link) in OPENED.items():
        assert normalized_link(text) == link, case
        assert normalized_link(link) == link, case


def test_anything_else_is_no_link() -> None:
    for text in NONE:
        assert normalized_link(text) is None, text


_PORTS = [":80", ":443", ":9000"]
_PARTS = st.sampled_from(
    ["https:", "HTTP:", "/", "\\", "e.example", *_PORTS, "@", "?", "#", "%", "%2e", "..", "é", "a"]
)  # fmt: skip


@given(st.lists(_PARTS | st.text(CHARACTERS, max_size=4), max_size=12).map("".join) | TEXT)
def test_a_normalised_link_is_printable_ascii_and_stays_as_it_is(text: str) -> None:
    for written in (text, f"https://e.example/{text}"):
        link = normalized_link(written)
        assert link == links._normalized(written) or len(written) > MAX_LINK_CHARACTERS
        if link is not None:
            assert link.isascii()
            assert link.isprintable()
            assert " " not in link
            assert link.startswith(("http://", "https://"))
            assert normalized_link(link) == link


@pytest.mark.parametrize(
    "text", ["https://127。0。0。1/", "//169.254.169.254/", "https:\\\\LOCALHOST", "https://%31%32%37.1/"]
)  # fmt: skip
def test_the_guard_sees_through_every_disguise(text: str) -> None:
    link = normalized_link(text)

    assert link
    with pytest.raises(Forbidden):
        Guard().check(link)
