"""Bodies of callbacks: what is read, and what is refused within bounds."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.callbacks import body
from orchestrator.callbacks.body import MAX_FIELDS, read_body
from orchestrator.jsonio import NotJson
from tests.support.cases import for_each


def packed(content: bytes) -> bytes:
    """Return gzip without a time, because the bytes are part of a test's name."""
    return gzip.compress(content, mtime=0)


@for_each(
    ("raw", "value"),
    [
        (b"7", 7),
        (b"a=1&b=x%20y&c=", {"a": "1", "b": "x y", "c": ""}),
        (b"a=1&a=2&b[]=3", {"a": ["1", "2"], "b": ["3"]}),
        (b"data=%7B%22a%22%3A1%7D\r\n", {"data": '{"a":1}'}),
        (b"data=%ff", {"data": "\ufffd"}),
        (packed(b"a=1"), {"a": "1"}),
        (zlib.compress(packed(b"[1]")), [1]),
        (b"--b\nContent-Disposition: form-data; name=a\n\n1\n--b--\n", {"a": "1"}),
    ],
)
def test_a_form_or_a_compressed_body_is_read(raw: bytes, value: Any) -> None:
    assert read_body(raw) == value


@for_each(
    "raw",
    [
        b"", b"hello", b"<a b=c>", b"a b=c", packed(b"hello"), packed(b"[1]")[:-9],
        packed(packed(packed(b"[1]"))), b"--b\r\n--b--", b"--",
        b"&".join(b"a=1" for _ in range(MAX_FIELDS + 1)), b"\x1f\x8b",
    ],
)  # fmt: skip
def test_anything_else_is_not_json(raw: bytes) -> None:
    with pytest.raises(NotJson):
        read_body(raw)


def test_what_a_body_becomes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MAX_BYTES", 1000)

    assert read_body(packed(b"[" + b" " * 900 + b"]")) == []
    for compress in (gzip.compress, zlib.compress):
        with pytest.raises(NotJson):
            read_body(compress(b"[" + b" " * 2000 + b"]"))


_PARTS = st.sampled_from(
    [b"--b\r\n", b"a=", b"&", b"name=x", b"\r\n\r\n", b"\x1f\x8b\x08", b"x\x9c"]
)


@given(st.binary() | st.lists(_PARTS | st.binary(max_size=4)).map(b"".join))
def test_whatever_comes_is_read_or_not_json(raw: bytes) -> None:
    for sent in (raw, packed(raw)):
        try:
            read_body(sent)
        except NotJson:
            continue
