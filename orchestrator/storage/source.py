"""What is put into a storage: a file that is read once, piece by piece, within a time."""

from __future__ import annotations

import io
from time import monotonic
from typing import BinaryIO

from orchestrator.storage.errors import StorageError

#: What is read, written and sent at a time; S3 takes no smaller parts. Bytes.
PIECE = 5 * 1024 * 1024
#: A put that is still reading its file after this is given up. Seconds.
PUT_WITHIN = 60.0


class Source:
    """As much of a file as obstore asks for; `failure` is what reading it raised."""

    def __init__(self, content: BinaryIO | bytes) -> None:
        self._file = io.BytesIO(content) if isinstance(content, bytes) else content
        self._file.seek(0)
        self._until = monotonic() + PUT_WITHIN
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`.

        Raises:
            StorageError: the put takes too long.
            Exception: what the file raised.
        """
        try:
            if monotonic() > self._until:
                raise StorageError(f"too slow: not stored within {PUT_WITHIN:.0f} s")
            return self._file.read(size)
        except Exception as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset, as files do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The present offset."""
        return self._file.tell()
