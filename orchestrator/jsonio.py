"""JSON: strict from callers, lenient from providers, compact to outside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

#: The largest text that is read leniently. Bytes or characters.
MAX_LENIENT_LENGTH = 128 * 1024 * 1024
#: The deepest nesting that is read leniently. Levels.
MAX_LENIENT_DEPTH = 200
#: Other whole numbers become floating point numbers, as in the strict parser.
_INTEGERS = range(-(2**63), 2**64)
_MAX_INTEGER_CHARACTERS = 20
#: Characters around a document that are ignored, in addition to JSON's own white space.
_PADDING = "\0\ufeff \t\r\n\v\f"
#: The end of a name in an object that does not stand directly before its colon.
_SPACED_NAME = re.compile(rb'"[ \t\r\n]+:')
_SURROGATE = re.compile("[\ud800-\udfff]")


class NotJson(ValueError):
    """The bytes are not JSON: they are malformed, not UTF-8, or nested too deeply."""


def parse(body: bytes | str) -> Any:
    """Parse strict JSON (RFC 8259), in which each name of an object stands once (RFC 7493).

    Raises:
        NotJson: the text is not such JSON.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from None
    text = body.encode() if isinstance(body, str) else body
    # Strings may hold these characters, too. Then the text is read twice.
    if text.count(b'":') != _count_names(value) or _SPACED_NAME.search(text):
        _refuse_repeated_names(text)
    return value


def parse_lenient(body: bytes | str) -> Any:
    """Parse JSON as providers send it. What the strict parser accepts has the same meaning here.

    Of a name that stands twice in an object, the last one counts.

    A BOM, UTF-16, NULs and white space around the document, and raw control characters in strings
    are accepted. Bytes and surrogates that are no text become U+FFFD. NaN, the infinities and
    numbers beyond the range of a double become None. So the result can always be stored as UTF-8.

    Raises:
        NotJson: the text is not such JSON, or is too large, or nested too deeply.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = str(error)
    if len(body) > MAX_LENIENT_LENGTH:
        raise NotJson(f"larger than {MAX_LENIENT_LENGTH} bytes")
    try:
        value = _DECODER.decode(_text(body).strip(_PADDING))
        return _storable(value, MAX_LENIENT_DEPTH)
    except (ValueError, RecursionError):
        raise NotJson(reason) from None


def parse_embedded(text: str) -> Any:
    """Return the object, list or string that JSON text holds, or None for any other text."""
    if text.lstrip(_PADDING)[:1] not in ("{", "[", '"'):
        return None
    try:
        return parse_lenient(text)
    except NotJson:
        return None


def dump(value: Any) -> bytes:
    """Return `value` as compact JSON."""
    return orjson.dumps(value)


def dump_any(value: Any) -> bytes:
    """Return any value as JSON for people. What JSON cannot hold becomes text."""
    with suppress(TypeError):
        return dump(value)
    try:
        return json.dumps(value, default=str).encode()
    except (TypeError, ValueError, RecursionError) as error:  # a strange key, or nested too deeply
        return dump(f"unreadable: {error}")


def _count_names(value: Any) -> int:
    """Return the number of names in all objects of a value."""
    number, left = 0, list[Iterable[Any]]([(value,)])
    while left:
        for each in left.pop():
            if isinstance(each, dict):
                number += len(each)
                left.append(each.values())
            elif isinstance(each, list):
                left.append(each)
    return number


def _refuse_repeated_names(text: bytes) -> None:
    """Read JSON once more, much slower.

    Raises:
        NotJson: an object has a name twice.
    """
    try:
        json.loads(text, object_pairs_hook=_unique, parse_int=str, parse_float=str)
    except RecursionError:
        raise NotJson("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    names = set[str]()
    for name, _ in pairs:
        if name in names:
            raise NotJson(f"an object has the name {dump(name[:40]).decode()} twice")
        names.add(name)


def _text(body: bytes | str) -> str:
    """Decode UTF-8, UTF-16 or UTF-32. JSON starts with ASCII, so its first bytes tell which."""
    if isinstance(body, str):
        return body
    return body.decode(json.detect_encoding(body), "replace")


def _whole(digits: str) -> int | float | None:
    if len(digits) <= _MAX_INTEGER_CHARACTERS and int(digits) in _INTEGERS:
        return int(digits)
    return _real(digits)


def _real(digits: str) -> float | None:
    number = float(digits)
    return number if abs(number) != float("inf") else None


def _storable(value: Any, depth: int) -> Any:
    """Return the value with U+FFFD in place of surrogates.

    Raises:
        RecursionError: the nesting is deeper than `depth`.
    """
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        raise RecursionError
    if isinstance(value, list):
        return [_storable(inner, depth - 1) for inner in value]
    return {_storable(k, 0): _storable(inner, depth - 1) for k, inner in value.items()}


_DECODER = json.JSONDecoder(
    strict=False, parse_int=_whole, parse_float=_real, parse_constant=dict[str, None]().get
)


def ms(text: str) -> int:
    """Return a time in RFC 3339 as ms since the epoch.

    Raises:
        ValueError: the text is no such time.
    """
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def rfc3339(time: int | None) -> str | None:
    """Return a time in ms as RFC 3339 text with milliseconds; None stays None."""
    if time is None:
        return None
    seconds, ms = divmod(time, 1000)
    return f"{_rfc3339_seconds(seconds)}.{ms:03d}Z"


@lru_cache
def _rfc3339_seconds(seconds: int) -> str:
    """Return the text up to the second. The times of many jobs share it."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
