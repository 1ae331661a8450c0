"""Objects as files of a folder, which is made with the first one.

A file is written in `.half`, synced, renamed to its place, and the folders on the way to it are
synced. obstore's local store syncs nothing and lets an interrupted process leave its halves beside
the objects; so it is not used here.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator.storage.errors import NotStored, StorageError
from orchestrator.storage.files import remove_stale, write_atomically
from orchestrator.storage.source import PIECE, Source

#: The folder of files that are being written. No object's path may begin with a dot.
TEMPORARY = ".half"
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Folder:
    """Checked paths in, StorageError out: what `Storage` needs of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.description = f"file://{folder}"

    def put(self, path: str, source: Source, content_type: str) -> None:
        """Have an object on the disk, synced; a file has no content type but its extension."""
        temporary = self._folder / TEMPORARY / secrets.token_hex(16)
        pieces = iter(lambda: source.read(PIECE), b"")
        try:
            write_atomically(self._folder / path, pieces, temporary=temporary)
        except OSError as error:
            raise self._error(error) from None

    def stream(self, path: str) -> Iterator[bytes]:
        """An object's bytes."""
        try:
            with (self._folder / path).open("rb") as file:
                while piece := file.read(PIECE):
                    yield piece
        except (FileNotFoundError, NotADirectoryError):
            raise NotStored(f"{self.description}: there is no {path}") from None
        except OSError as error:
            raise self._error(error) from None

    def link(self, path: str, seconds: int) -> str | None:
        """None: nobody else reads this disk."""
        return None

    def delete(self, path: str) -> None:
        """Forget an object, and the folders that are empty without it."""
        target = self._folder / path
        try:
            with suppress(FileNotFoundError, NotADirectoryError):
                target.unlink()
        except OSError as error:
            raise self._error(error) from None
        with suppress(OSError):  # the first that holds something ends it
            for parent in Path(path).parents[:-1]:
                (self._folder / parent).rmdir()

    def sweep(self) -> None:
        """Remove what processes that died had half written: nobody was told that we have it."""
        try:
            with suppress(FileNotFoundError):
                remove_stale((self._folder / TEMPORARY).iterdir())
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> StorageError:
        strange = error.strerror or type(error).__name__
        said = "no space left" if error.errno in _FULL else strange
        return StorageError(f"{self.description}: {said}")
