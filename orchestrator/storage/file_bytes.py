"""Reads parts of a file by their offset."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

#: A file of at most this length is read once, as a whole. Bytes.
_SHORT_BYTES = 64 * 1024
#: The part of a file that is searched at a time. Bytes.
_SEARCH_BYTES = 1024 * 1024
#: The first part that is searched for a pattern, which is often near. Each next one is twice as
#: long. Bytes.
_FIRST_SEARCH_BYTES = 4 * 1024


class FileBytes:
    """The bytes of a file. Of a long one, no more than one part is held in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        self._whole = self._read(0, self._size) if self._size <= _SHORT_BYTES else None

    def __len__(self) -> int:
        return self._size

    def part(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from an offset on, or fewer at the end of the file."""
        if self._whole is None:
            return self._read(offset, size)
        return self._whole[offset : offset + size]

    def number(self, offset: int, size: int, order: str = ">") -> int:
        """Return an unsigned number. `order` is > (big-endian) or < (little-endian).

        Missing bytes count as nothing.
        """
        return int.from_bytes(self.part(offset, size), "big" if order == ">" else "little")

    def contains(self, marker: bytes, start: int = 0) -> bool:
        """Return whether the file has a marker at an offset of at least `start`."""
        offset = max(start, 0)
        while offset < self._size:
            if marker in self.part(offset, _SEARCH_BYTES + len(marker) - 1):
                return True
            offset += _SEARCH_BYTES
        return False

    def count(self, pair: bytes) -> int:
        """Return how often two different bytes stand in the file."""
        offsets = range(0, self._size, _SEARCH_BYTES)
        return sum(self.part(offset, _SEARCH_BYTES + 1).count(pair) for offset in offsets)

    def find(self, pair: re.Pattern[bytes], start: int) -> int | None:
        """Return the offset of the first match of a pattern of two bytes, or None."""
        offset, size = start, _FIRST_SEARCH_BYTES
        while offset < self._size:
            if match := pair.search(self.part(offset, size + 1)):
                return offset + match.start()
            offset, size = offset + size, min(2 * size, _SEARCH_BYTES)
        return None

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)
