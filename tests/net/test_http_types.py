"""`Retry-After` values of HTTP answers."""

from __future__ import annotations

import pytest

from orchestrator.net.http_types import Reply


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        ("-7", 0.0),
        ("1e9", 3600.0),
        ("inf", 3600.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 9015 07:28:00 GMT", 3600.0),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00", None),
        ("Wed, 21 Oct 2015 07:28:00 -0000", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999", None),
        ("Wed, 99 Oct 2015 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_read_within_an_hour_and_an_odd_one_ignored(
    header: str, seconds: float | None
) -> None:
    assert Reply(429, {"retry-after": header}, b"").retry_after() == seconds


def test_without_the_header_there_is_no_wait() -> None:
    assert Reply(429, {}, b"").retry_after() is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1}',
        b'\xef\xbb\xbf{"a":1}\x00',
        b'[{"a":1}]',
        b'"{\\"a\\":1}"',
        b'["{\\"a\\":1}"]',
    ],
)
def test_an_object_is_found_in_its_wrapping(body: bytes) -> None:
    assert Reply(200, {}, body).object() == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"7", b"null", b"[]", b"[{},{}]", b'"x"', b"[[[[[{}]]]]]"])
def test_anything_else_is_no_object(body: bytes) -> None:
    assert Reply(200, {}, body).object() is None
