"""Text from outside cannot control a terminal, forge a line, or show a password."""

from __future__ import annotations

import json

import pytest

from orchestrator.plain_text import escaped, escaped_json, masked
from tests.support.cases import for_each

#: What can do harm: escape sequences, C1 controls, bidirectional controls, line ends, surrogates.
HARMFUL = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202eexe.gpj",
    "\u2066hidden\u2069",
    "a\nforged line",
    "a\rover",
    "\u2028",
    "\x00",
    "\x7f",
    "\ud800",
    "\U000e0041",
    "\ufeff",
]


@for_each("text", HARMFUL)
def test_what_does_not_print_is_shown_as_an_escape(text: str) -> None:
    assert escaped(text).isprintable()
    assert escaped(f"a {text} b") != f"a {text} b"


@pytest.mark.parametrize("text", ["A lighthouse", "灯台の夕暮れ", "café 🎨", "x[/y] :smile:"])
def test_text_that_prints_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


@for_each("text", [t for t in HARMFUL if t != "\ud800"])
def test_a_json_document_keeps_its_value(text: str) -> None:
    document = json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":"))

    assert escaped_json(document).isprintable()
    assert json.loads(escaped_json(document)) == {"text": text}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no answer at redis://app:pass@host:6379/0", "no answer at redis://***@host:6379/0"),
        ("s3:/KEY:SECRET@bucket", "s3:/***@bucket"),
        ("https://cdn.example/image@2x.png", "https://cdn.example/image@2x.png"),
        ("write to me@example.com", "write to me@example.com"),
    ],
)
def test_urls_lose_their_passwords(text: str, expected: str) -> None:
    assert masked(text) == expected
