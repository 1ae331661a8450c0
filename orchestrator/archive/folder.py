"""Objects as files of a folder, which is made with the first one.

A file is written in `.half`, synced, renamed to its place, and the folders on the way to it are
synced. obstore's local store syncs nothing and lets an interrupted process leave its halves beside
the objects; so it is not used here.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time

from orchestrator.archive.errors import NotStored, StorageError
from orchestrator.archive.source import PIECE, Source

#: Where files are while they are written; no object's path may begin with a dot.
HALF = ".half"
#: A half-written file this old is of a process that died. Seconds.
STRAY = 3600.0
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Folder:
    """Checked paths in, StorageError out: what `Storage` needs of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.description = f"file://{folder}"

    def put(self, path: str, source: Source, content_type: str) -> None:
        """Have an object on the disk, synced; a file has no content type but its extension."""
        half = self._folder / HALF / secrets.token_hex(16)
        try:
            _make(half.parent)
            try:
                _write(half, source)
                _place(half, self._folder / path)
            except BaseException:
                with suppress(OSError):
                    half.unlink(missing_ok=True)
                raise
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
                for half in (self._folder / HALF).iterdir():
                    with suppress(FileNotFoundError):
                        if time() - half.stat().st_mtime > STRAY:
                            half.unlink()
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> StorageError:
        strange = error.strerror or type(error).__name__
        said = "no space left" if error.errno in _FULL else strange
        return StorageError(f"{self.description}: {said}")


def _write(half: Path, source: Source) -> None:
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        while piece := source.read(PIECE):
            file.write(piece)
        file.flush()
        os.fsync(descriptor)


def _place(half: Path, target: Path) -> None:
    for last in (False, False, True):
        _make(target.parent)
        try:
            half.replace(target)
            break
        except FileNotFoundError:  # `delete` elsewhere took the folder, which was empty
            if last:
                raise
    _sync(target.parent)


def _make(folder: Path) -> None:
    """A folder and its parents, each synced into its own parent."""
    if folder.is_dir():
        return
    _make(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
