"""HTTP as data: what an adapter wants sent, what came back, and JSON from strangers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isnan
from typing import Any

import orjson

#: A provider that asks for more patience than this (seconds) is asked again after this long.
MAX_RETRY_AFTER = 3600.0


class NotJson(ValueError):
    """The bytes are not JSON: malformed, not UTF-8, or nested absurdly deep."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that goes with a call, as the field `form_field` of a form."""

    form_field: str
    name: str
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP call to a provider. `path` follows the base URL; the API key is added when sent.

    The body goes as JSON; with a file, its fields go as a multipart form.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    file: File | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def object(self) -> dict[str, Any] | None:
        """The body as a JSON object, or None when it is anything else."""
        try:
            value = parse(self.body)
        except NotJson:
            return None
        return value if isinstance(value, dict) else None

    def retry_after(self) -> float | None:
        """Seconds the answer asks us to wait (RFC 9110, both forms), or None."""
        text = self.headers.get("retry-after", "")
        try:
            seconds = float(text)
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
            except (ValueError, TypeError, OverflowError):
                return None
        return None if isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER)


def parse(body: bytes | str) -> Any:
    """Strict JSON (RFC 8259) from outside.

    Raises:
        NotJson: it is not.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from None


def dump(value: Any) -> bytes:
    """`value` as compact JSON."""
    return orjson.dumps(value)
