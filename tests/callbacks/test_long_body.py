"""A long callback keeps its short values, and needs a bounded memory."""

from __future__ import annotations

import base64

import pytest

from orchestrator.callbacks import long_body
from orchestrator.callbacks.long_body import MAX_KEPT_BYTES, MAX_STRING_BYTES, ShortenedBody
from orchestrator.jsonio import dump, parse

IMAGE = base64.b64encode(bytes(range(256)) * 400).decode()


def shortened(body: bytes, part: int = 65_536) -> bytes:
    read = ShortenedBody()
    for start in range(0, len(body), part):
        read.feed(body[start : start + part])
    return read.body()


@pytest.mark.parametrize("part", [1, 7, 65_536])
def test_long_strings_are_left_out_wherever_the_parts_end(part: int) -> None:
    task = {
        "id": 'task "1" \\',
        "prompt": "\n\u00e9\U0001f600",
        "image": IMAGE,
        "images": [{"b64_json": IMAGE.replace("+", '"+\\')}],
        "keep": "x" * MAX_STRING_BYTES,
        "drop": "x" * (MAX_STRING_BYTES + 1),
        "n": 1.5,
    }

    read = parse(shortened(dump(task).replace(b"/", b"\\/"), part))

    assert read == {**task, "image": "", "images": [{"b64_json": ""}], "drop": ""}


def test_a_body_that_stays_large_is_left_out() -> None:
    assert shortened(b"[" + b"1," * MAX_KEPT_BYTES + b"1]") == b""
    assert shortened(dump(["x" * 1000] * 300)) == b""


def test_an_endless_string_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_body, "bytearray", Bounded, raising=False)
    read = ShortenedBody()
    read.feed(b'{"image":"')
    for _ in range(200):
        read.feed(b"x" * 65_536)
    read.feed(b'"}')

    assert read.body() == b'{"image":""}'


class Bounded(bytearray):
    """A buffer that fails when it grows."""

    def __iadd__(self, more: object) -> Bounded:
        super().__iadd__(more)  # type: ignore[arg-type]
        assert len(self) <= 2 * (MAX_STRING_BYTES + 1)
        return self
