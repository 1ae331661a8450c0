"""Stores objects as files in a folder. The first put creates the folder.

A file is written in `.half`, synced, and renamed. Then its folders are synced. obstore's local
store syncs nothing, and an interrupted process leaves partial files beside the objects. So we do
not use it.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator.storage.errors import NotStored, StorageError
from orchestrator.storage.files import remove_stale, write_atomically
from orchestrator.storage.source import PART_BYTES, Source

#: The folder of files that are being written. Paths of objects never begin with a dot.
TEMPORARY = ".half"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class Folder:
    """A folder as a storage. Paths were checked by `Storage`. Methods raise StorageError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.description = f"file://{folder}"

    def put(
        self, path: str, source: Source, content_type: str, *, attachment: bool = False
    ) -> None:
        """Write and sync an object. A file system keeps no content type and no disposition."""
        temporary = self._folder / TEMPORARY / secrets.token_hex(16)
        pieces = iter(lambda: source.read(PART_BYTES), b"")
        try:
            write_atomically(self._folder / path, pieces, temporary=temporary)
        except OSError as error:
            raise self._error(error) from None

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield an object's bytes."""
        try:
            with (self._folder / path).open("rb") as file:
                while piece := file.read(PART_BYTES):
                    yield piece
        except (FileNotFoundError, NotADirectoryError):
            raise NotStored(f"{self.description}: {path} does not exist") from None
        except OSError as error:
            raise self._error(error) from None

    def paths(self) -> Iterator[str]:
        """Yield the paths of all objects."""
        try:
            for folder, folders, names in os.walk(self._folder, onerror=_raise):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                place = Path(folder).relative_to(self._folder)
                yield from ((place / name).as_posix() for name in sorted(names))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._error(error) from None

    def local_path(self, path: str) -> Path | None:
        """Return the file of an object."""
        return self._folder / path

    def link(self, path: str, seconds: int) -> str | None:
        """Return None: a folder has no public links."""
        return None

    def delete(self, path: str) -> None:
        """Delete an object, and the folders that are then empty."""
        target = self._folder / path
        try:
            with suppress(FileNotFoundError, NotADirectoryError):
                target.unlink()
        except OSError as error:
            raise self._error(error) from None
        with suppress(OSError):  # stops at the first folder that is not empty
            for parent in Path(path).parents[:-1]:
                (self._folder / parent).rmdir()

    def sweep(self) -> None:
        """Remove the partial files of processes that died."""
        try:
            with suppress(FileNotFoundError):
                remove_stale((self._folder / TEMPORARY).iterdir())
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> StorageError:
        other = error.strerror or type(error).__name__
        reason = "no space left" if error.errno in _DISK_FULL else other
        return StorageError(f"{self.description}: {reason}")


def _raise(error: OSError) -> None:
    raise error
