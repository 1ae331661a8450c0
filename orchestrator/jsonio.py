"""Strict JSON from outside, and compact JSON to outside."""

from __future__ import annotations

from typing import Any

import orjson


class NotJson(ValueError):
    """The bytes are not JSON: they are malformed, not UTF-8, or nested too deeply."""


def parse(body: bytes | str) -> Any:
    """Parse strict JSON (RFC 8259).

    Raises:
        NotJson: the text is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from None


def dump(value: Any) -> bytes:
    """Return `value` as compact JSON."""
    return orjson.dumps(value)
