"""The content of a put: a file that is read once, in parts, within a time limit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from time import monotonic
from typing import BinaryIO

from orchestrator.storage.errors import StorageError

#: The size of a part. S3 accepts no smaller parts. Bytes.
PART_BYTES = 5 * 1024 * 1024
#: The time limit of a put. Seconds.
PUT_TIMEOUT_SECONDS = 60.0


class Source:
    """A file for obstore. `failure` is the exception that reading it raised."""

    def __init__(self, content: BinaryIO | bytes) -> None:
        self._file = io.BytesIO(content) if isinstance(content, bytes) else content
        self._file.seek(0)
        #: Begins with the first read, because a put may wait for the syncs of others before that.
        self._until: float | None = None
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`.

        Raises:
            StorageError: the time limit is over.
            Exception: the error of the file.
        """
        try:
            if self._until is None:
                self._until = monotonic() + PUT_TIMEOUT_SECONDS
            if monotonic() > self._until:
                raise StorageError(f"too slow: not stored within {PUT_TIMEOUT_SECONDS:.0f} s")
            return self._file.read(size)
        except Exception as error:
            self.failure = error
            raise

    def pieces(self) -> Iterator[bytes]:
        """Yield the rest of the file in parts. Raises the errors of `read`."""
        return iter(lambda: self.read(PART_BYTES), b"")

    def __len__(self) -> int:
        """Return the length of the file, bytes."""
        before = self._file.tell()
        length = self._file.seek(0, io.SEEK_END)
        self._file.seek(before)
        return length

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Change the offset."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the offset."""
        return self._file.tell()
