"""Stores objects as files in a folder. The first put creates the folder.

A file gets its name when its content is synced. Then its folders are synced: see commits.py.
obstore's local store syncs nothing, and an interrupted
process leaves partial files beside the objects. So we do not use it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.storage.bundle import NewObject
from orchestrator.storage.commits import TEMPORARY, Commits, Run
from orchestrator.storage.errors import NoFolder, NotStored, StorageError
from orchestrator.storage.files import remove_stale
from orchestrator.storage.known_folder import KnownFolder
from orchestrator.storage.source import PART_BYTES

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class Folder:
    """A folder as a storage. Paths were checked by `Storage`. Methods raise StorageError.

    Args:
        folder: the folder.
        is_used: see KnownFolder.
    """

    def __init__(self, folder: Path, is_used: Callable[[], bool] = lambda: False) -> None:
        self._folder = folder
        self._known = KnownFolder(str(folder), is_used)
        self._commits = Commits(str(folder), self._known)
        self.description = f"file://{folder}"

    def commit(self, objects: Sequence[NewObject], run: Run, written: Callable[[], None]) -> None:
        """Write and sync objects. A file system keeps no content type and no disposition."""
        try:
            self._commits.commit([(each.path, each.source) for each in objects], run, written)
        except OSError as error:
            raise self._error(error) from None

    def size(self, path: str) -> int | None:
        """Return the length of an object, bytes; None if it does not exist."""
        try:
            return (self._folder / path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            self._check()
            return None
        except OSError as error:
            raise self._error(error) from None

    def modified(self, path: str) -> int | None:
        """Return when an object was put, ms; None if it does not exist."""
        try:
            return (self._folder / path).stat().st_mtime_ns // 1_000_000
        except (FileNotFoundError, NotADirectoryError):
            self._check()
            return None
        except OSError as error:
            raise self._error(error) from None

    def put_before(self, folder: str, before: int) -> Iterator[str]:
        """Yield the paths of the objects in a folder that were put before a time, ms."""
        for path in Folder(self._folder / folder).paths():
            modified = self.modified(f"{folder}/{path}")
            if modified is not None and modified < before:
                yield f"{folder}/{path}"

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield an object's bytes."""
        try:
            with (self._folder / path).open("rb") as file:
                self._known.learn(path)
                while piece := file.read(PART_BYTES):
                    yield piece
        except (FileNotFoundError, NotADirectoryError):
            self._check()
            kind = NotStored if self._folder.is_dir() else NoFolder
            raise kind(f"{self.description}: {path} does not exist") from None
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
        self._known.learn(path)
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

    def _check(self) -> None:
        """Check that a file is missing in the folder that was used before.

        Raises:
            StorageError: the folder itself is away.
        """
        try:
            self._known.check()
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> StorageError:
        other = error.strerror or type(error).__name__
        reason = "no space left" if error.errno in _DISK_FULL else other
        return StorageError(f"{self.description}: {reason}")


def _raise(error: OSError) -> None:
    raise error
