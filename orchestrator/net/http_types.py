"""HTTP calls and answers as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isnan
from typing import Any

from orchestrator.jsonio import NotJson, parse_lenient

#: A longer `Retry-After` counts as this many seconds.
MAX_RETRY_AFTER_SECONDS = 3600.0
#: How often lists of one object and JSON text are unwrapped, with the body itself.
MAX_WRAPPINGS = 4


@dataclass(frozen=True, slots=True)
class File:
    """A file that is sent as the form field `form_field` of a multipart call."""

    form_field: str
    name: str
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """An HTTP call to a provider.

    `path` follows the provider's base URL. `body` is sent as JSON. With a `file`, the fields of
    `body` and the file are sent as a multipart form. Its repr leaves out everything that may hold
    an API key or a prompt.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    file: File | None = None

    def __repr__(self) -> str:
        return f"Call({self.method} {self.path.partition('?')[0]})"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. Header names are in lower case. Its repr leaves out what it may echo."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def object(self) -> dict[str, Any] | None:
        """Return the body as a JSON object, read leniently, or None for anything else.

        A list with one object is that object, and JSON text inside JSON is read, too.
        """
        value: Any = self.body
        for _ in range(MAX_WRAPPINGS):
            if isinstance(value, list) and len(value) == 1:
                [value] = value
            elif isinstance(value, bytes | str):
                try:
                    value = parse_lenient(value)
                except NotJson:
                    return None
        return value if isinstance(value, dict) else None

    def retry_after(self) -> float | None:
        """Return the seconds that `Retry-After` asks for, or None without that header."""
        return retry_after_seconds(self.headers.get("retry-after", ""))


def retry_after_seconds(text: str) -> float | None:
    """Read a `Retry-After` value (RFC 9110): seconds or a date.

    Returns:
        Seconds from now, from 0 to MAX_RETRY_AFTER_SECONDS. None when the text is neither form.
    """
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return None if isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
