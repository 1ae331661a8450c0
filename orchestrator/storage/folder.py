"""Stores objects as files in a folder. The first put creates the folder.

A file gets its name when its content is synced. Then its folders are synced: see commits.py.
obstore's local store syncs nothing, and an interrupted
process leaves partial files beside the objects. So we do not use it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
        with self._storage_errors():
            self._commits.commit([(each.path, each.source) for each in objects], run, written)

    def size(self, path: str) -> int | None:
        """Return the length of an object, bytes; None if it does not exist."""
        known = self._stat(path)
        return known and known.st_size

    def modified(self, path: str) -> int | None:
        """Return when an object was put, ms; None if it does not exist."""
        known = self._stat(path)
        return known and known.st_mtime_ns // 1_000_000

    def put_before(self, folder: str, before: int) -> Iterator[str]:
        """Yield the paths of the objects in a folder that were put before a time, ms."""
        for path in self._listed(folder):
            modified = self.modified(path)
            if modified is not None and modified < before:
                yield path

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield an object's bytes."""
        with self._storage_errors():
            try:
                with (self._folder / path).open("rb") as file:
                    self._known.learn(path)
                    while piece := file.read(PART_BYTES):
                        yield piece
            except (FileNotFoundError, NotADirectoryError):
                self._known.check()
                kind = NotStored if self._folder.is_dir() else NoFolder
                raise kind(f"{self.description}: {path} does not exist") from None

    def paths(self) -> Iterator[str]:
        """Yield the paths of all objects."""
        return self._listed()

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
        with self._storage_errors(), suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()
        with suppress(OSError):  # stops at the first folder that is not empty
            for parent in Path(path).parents[:-1]:
                (self._folder / parent).rmdir()

    def sweep(self) -> None:
        """Remove the partial files of processes that died."""
        with self._storage_errors(), suppress(FileNotFoundError):
            remove_stale((self._folder / TEMPORARY).iterdir())

    def _listed(self, below: str = "") -> Iterator[str]:
        """Yield the paths of the objects in a folder. What is deleted meanwhile may be missing.

        Raises:
            StorageError: it cannot be read, or its disk is away.
        """
        with self._storage_errors():
            for folder, folders, names in os.walk(self._folder / below, onerror=_raise_unless_gone):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                place = Path(folder).relative_to(self._folder)
                for path in ((place / name).as_posix() for name in sorted(names)):
                    self._known.learn(path)
                    yield path
            self._known.check_before_use()

    def _stat(self, path: str) -> os.stat_result | None:
        """Return what the file system says of an object; None if it does not exist.

        Raises:
            StorageError: the folder itself is away, or cannot be read.
        """
        with self._storage_errors():
            try:
                return (self._folder / path).stat()
            except (FileNotFoundError, NotADirectoryError):
                self._known.check()
                return None

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Raise StorageError in the place of errors of the file system."""
        try:
            yield
        except OSError as error:
            other = error.strerror or type(error).__name__
            reason = "no space left" if error.errno in _DISK_FULL else other
            raise StorageError(f"{self.description}: {reason}") from None


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
