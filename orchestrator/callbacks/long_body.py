"""Shortens a callback that is too large to be kept in memory: its long strings are left out.

Long strings are images. The rest still names the task. A shortened body never settles a job: a poll
gets the complete result.
"""

from __future__ import annotations

import re

#: A longer string is replaced by an empty one. Ids and links are shorter. Bytes.
MAX_STRING_BYTES = 8 * 1024
#: When the shortened body is larger, nothing of it is kept. Bytes.
MAX_KEPT_BYTES = 256 * 1024
#: The inside of a JSON string, up to its end or to an escape that is cut off.
_INSIDE = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)


class ShortenedBody:
    """The shortened form of a JSON body that arrives in parts. It needs a bounded memory."""

    def __init__(self) -> None:
        self._kept = bytearray()
        #: The current string without its quotes; None outside of strings.
        self._string: bytearray | None = None
        #: A backslash at the end of a part.
        self._escape = b""
        self._overflow = False

    def feed(self, part: bytes) -> None:
        """Add the next part of the body."""
        part, self._escape = self._escape + part, b""
        offset = 0
        while offset < len(part) and not self._overflow:
            read = self._read_plain if self._string is None else self._read_string
            offset = read(part, offset)
            self._overflow = len(self._kept) > MAX_KEPT_BYTES

    def body(self) -> bytes:
        """Return the shortened body. It is empty when too much is left of it."""
        return b"" if self._overflow else bytes(self._kept)

    def _read_plain(self, part: bytes, offset: int) -> int:
        """Keep what stands outside of strings. Return where the next string begins."""
        quote = part.find(b'"', offset)
        end = len(part) if quote < 0 else quote + 1
        self._kept += part[offset:end]
        if quote >= 0:
            self._string = bytearray()
        return end

    def _read_string(self, part: bytes, offset: int) -> int:
        """Keep a string, unless it is long. Return where its part ends."""
        string = self._string if self._string is not None else bytearray()
        inside = _INSIDE.match(part, offset)
        end = inside.end() if inside else offset
        if len(string) <= MAX_STRING_BYTES:
            string += part[offset : min(end, offset + MAX_STRING_BYTES + 1)]
        if end == len(part):
            return end
        if part[end : end + 1] == b"\\":
            self._escape = part[end:]
            return len(part)
        self._kept += (string if len(string) <= MAX_STRING_BYTES else b"") + b'"'
        self._string = None
        return end + 1
