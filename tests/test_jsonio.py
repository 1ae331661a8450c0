"""JSON as callers must send it, and as providers do send it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.jsonio import MAX_LENIENT_DEPTH, NotJson, dump, parse, parse_lenient
from tests.support.cases import for_each
from tests.support.strategies import TEXT

#: What other parsers accept -> its meaning.
ODD: dict[str, tuple[bytes, Any]] = {
    "a BOM": (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
    "UTF-16 with a BOM": ('{"a":"é"}'.encode("utf-16"), {"a": "é"}),
    "UTF-16 without a BOM": ('{"a":"é"}'.encode("utf-16-le"), {"a": "é"}),
    "UTF-32": ('{"a":"é"}'.encode("utf-32"), {"a": "é"}),
    "a lone surrogate": (rb'{"prompt":"cat \ud83d"}', {"prompt": "cat \ufffd"}),
    "a lone low surrogate": (rb'["\ude3a!"]', ["\ufffd!"]),
    "a surrogate in a key": (rb'{"\ud83d":1}', {"\ufffd": 1}),
    "a pair beside a lone one": (rb'["\ud83d\ude3a \ud83d"]', ["\U0001f63a \ufffd"]),
    "NaN and the infinities": (b"[NaN, Infinity, -Infinity]", [None, None, None]),
    "too large a number": (b"[1e400, -1e400, 1.5]", [None, None, 1.5]),
    "a huge integer": (b"\xef\xbb\xbf[" + b"9" * 5000 + b"]", [None]),
    "a large integer": (b"\xef\xbb\xbf[123456789012345678901]", [123456789012345678901.0]),
    "the largest integers": (
        b"\xef\xbb\xbf[18446744073709551615, -9223372036854775808]",
        [2**64 - 1, -(2**63)],
    ),
    "raw control characters": (b'{"a":"x\ny\t\x00z"}', {"a": "x\ny\t\x00z"}),
    "bytes that are no UTF-8": (b'{"a":"\xff\xe9"}', {"a": "\ufffd\ufffd"}),
    "a surrogate as UTF-8": (b'["\xed\xa0\xbd"]', ["\ufffd\ufffd\ufffd"]),
    "NULs and white space around": (b' \x0b{"a":1}\r\n\x00\x00', {"a": 1}),
}

NOT_JSON = [
    b"", b" ", b"\x00", b"\xef\xbb\xbf",
    b"{", b"{'a':1}", b"<html>", b'{"a":1} {"b":2}', b"\xff\xfe",
    b"\xef\xbb\xbf" + b"[" * 100_000, b"NaN" + b"[" * 5000, b"\x1f\x8b\x08\x00",
]  # fmt: skip


def test_odd_json_is_read_leniently_and_can_be_stored() -> None:
    for body, value in ODD.values():
        assert parse_lenient(body) == value, body
        assert json.loads(dump(parse_lenient(body))) == value, body


@for_each("case", sorted(ODD.keys() - {"UTF-32"}))
def test_from_callers_it_is_refused(case: str) -> None:
    with pytest.raises(NotJson):
        parse(ODD[case][0])


@for_each("body", NOT_JSON)
def test_what_is_no_json_is_not_json(body: bytes) -> None:
    with pytest.raises(NotJson):
        parse_lenient(body)


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_nesting_is_bounded(opened: bytes, closed: bytes) -> None:
    odd = b"\xef\xbb\xbf"
    assert parse_lenient(odd + opened * MAX_LENIENT_DEPTH + b"1" + closed * MAX_LENIENT_DEPTH)
    for levels in (MAX_LENIENT_DEPTH + 1, 990, 5000):
        with pytest.raises(NotJson):
            parse_lenient(odd + opened * levels + b"1" + closed * levels)


@for_each(
    ("body", "name"),
    [
        (b'{"a":1,"a":1}', "a"),
        (b'{"a" :1,"a":2}', "a"),
        (b'{"a"\r\n\t :1, "a"\n: 2}', "a"),
        (rb'{"a":1,"\u0061":2}', "a"),
        (b'[[{"x":{"b":1,"c":{},"b":[]}}]]', "b"),
        (rb'{"prompt":"say \":","b":1,"b":2}', "b"),
        (b'{"":1,"":2}', ""),
        (b'{"' + b"n" * 99 + b'":1,"' + b"n" * 99 + b'":2}', "n" * 40),
    ],
)
def test_a_name_that_stands_twice_is_refused_from_callers(body: bytes, name: str) -> None:
    for text in (body, body.decode()):
        with pytest.raises(NotJson, match=re.escape(f'an object has the name "{name}" twice')):
            parse(text)


def test_of_a_name_that_stands_twice_the_last_one_counts_leniently() -> None:
    twice = b'{"a":1,"a":{"b":2,"b":3}}'

    for body in (twice, b"\xef\xbb\xbf" + twice, twice.decode().encode("utf-16")):
        assert parse_lenient(body) == {"a": {"b": 3}}


@for_each(
    "body",
    [
        b'{"a":{"a":1},"b":[{"a":1},{"a":2}]}',
        rb'{"prompt":"\":\" :","n" :1}',
        b'{"a":"b","b":":"}',
        b"{" + b'"a":{' * 300 + b'"b" :1' + b"}" * 301,
    ],
)
def test_names_in_different_objects_and_in_strings_may_repeat(body: bytes) -> None:
    assert parse(body) == json.loads(body)


def test_a_text_that_is_read_twice_is_not_nested_deeper_than_that_allows() -> None:
    with pytest.raises(NotJson, match="nested too deeply"):
        parse(b'{"a" :' * 1000 + b"1" + b"}" * 1000)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)  # fmt: skip


@given(_JSON, st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]))
def test_what_is_strict_json_means_the_same_leniently(value: Any, encoding: str) -> None:
    assert parse_lenient(dump(value)) == value
    assert parse_lenient(dump(value).decode().encode(encoding)) == value


_PIECES = st.sampled_from(
    [b"\xef\xbb\xbf", b"[", b"{", b'"', rb"\ud83d", b"NaN", b"1e999", b":", b",", b"]", b"}"]
)  # fmt: skip


@given(st.binary() | st.lists(_PIECES | st.binary(max_size=3)).map(b"".join))
def test_whatever_comes_is_storable_or_not_json(body: bytes) -> None:
    for text in (body, body.decode("utf-8", "surrogateescape")):
        try:
            value = parse_lenient(text)
        except NotJson:
            continue
        dump(value)
