"""Atomic files: a file is on the disk whole, synced, and under its name, or it is not there."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Self, TypeVar

_T = TypeVar("_T")

#: Opens a file without a name. 0 where the system has none.
_NAMELESS = os.O_WRONLY | getattr(os, "O_TMPFILE", 0)
#: The errors of a file system or a kernel without such files.
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
#: How often a writer makes its folder, because another process may remove it while it is empty.
FOLDER_ATTEMPTS = 10
#: A temporary file of this age belongs to a process that died. Seconds.
STALE_SECONDS = 3600.0


def write_atomically(
    target: Path, pieces: Iterable[bytes], *, temporary: Path, mode: int = 0o666
) -> None:
    """Write `pieces` to `temporary`, sync it, and rename it to `target`. Missing folders are made.

    Args:
        target: the final path; an existing file there is replaced at once.
        pieces: the content.
        temporary: a path that no other writer uses, on the same file system.
        mode: permissions of a new file, before the umask.

    Raises:
        OSError: it is not certain that the file survives a crash of the host. `target` has its
            old content or the new content, never a mixture.
        Exception: the errors of `pieces` are raised unchanged.
    """
    write_synced(temporary, pieces, mode=mode)
    try:
        _in_folder(target.parent, lambda: temporary.replace(target))
    except BaseException:
        _remove(temporary)
        raise
    sync_folder(target.parent)


class NewFile:
    """A written file that has no name yet. A process that is killed meanwhile leaves nothing.

    Where the file system knows no files without a name (NFS), the file is already synced and named.
    A file beside its target costs a third of one that is moved there from another folder.
    """

    def __init__(self, target: str, temporaries: str, descriptor: int | None) -> None:
        self._target, self._temporaries = target, temporaries
        #: The open file; None if it is synced and named.
        self.descriptor = descriptor
        self._is_named = descriptor is None

    @classmethod
    def written(cls, target: str, pieces: Iterable[bytes], *, temporaries: str) -> Self:
        """Write a file. Nothing is synced yet. Missing folders are made.

        Args:
            target: the final path.
            pieces: the content.
            temporaries: a folder on the same file system. The file is there first, where files
                need a name, and where `target` exists.

        Raises:
            OSError: the file cannot be written.
            Exception: the errors of `pieces` are raised unchanged.
        """
        folder = target.rpartition("/")[0]
        try:
            descriptor = _in_new_folder(folder, lambda: os.open(folder, _NAMELESS, 0o666))
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            temporary = _path_in(temporaries)
            write_synced(temporary, pieces)
            _rename(temporary, target)
            return cls(target, temporaries, None)
        try:
            _write(descriptor, pieces)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(target, temporaries, descriptor)

    @property
    def folder(self) -> str:
        """The folder of the final path."""
        return self._target.rpartition("/")[0]

    def sync(self) -> None:
        """Sync the content.

        Raises:
            OSError: the disk failed.
        """
        if self.descriptor is not None:
            os.fsync(self.descriptor)

    def give_name(self) -> None:
        """Give the file its name. An existing file is replaced at once. The name is not synced.

        Raises:
            OSError: the path has its old content or the new content, never a mixture.
        """
        if self.descriptor is not None and not self._is_named:
            _give_name(self.descriptor, self._target, self._temporaries)
            self._is_named = True

    def close(self) -> None:
        """Close the file. Without a name it is gone."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def write_synced(path: Path, pieces: Iterable[bytes], *, mode: int = 0o666) -> None:
    """Write a new file and sync it. Missing folders are made. After an error there is no file.

    Raises:
        FileExistsError: `path` exists. It is unchanged.
        OSError: the file cannot be written.
        Exception: the errors of `pieces` are raised unchanged.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = _in_folder(path.parent, lambda: os.open(path, flags, mode))
    try:
        try:
            _write(descriptor, pieces)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        _remove(path)
        raise


def _write(descriptor: int, pieces: Iterable[bytes]) -> None:
    """Write to an open file. A file object of Python would take three more system calls."""
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder and its parents. Each new folder is synced into its own parent.

    Args:
        folder: the folder; nothing happens when it exists.
        mode: permissions of a new `folder`, before the umask. Its parents get the default.

    Raises:
        OSError: a folder cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode)
    sync_folder(folder.parent)


def sync_folder(folder: Path | str) -> None:
    """Sync the entries of a folder.

    Raises:
        OSError: the folder cannot be synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_stale(paths: Iterable[Path]) -> None:
    """Remove the temporary files among `paths` that are older than STALE_SECONDS.

    Raises:
        OSError: a file cannot be removed.
    """
    for path in paths:
        with suppress(FileNotFoundError):
            if time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def _in_folder(
    folder: Path, action: Callable[[], _T], make: Callable[[Path], None] | None = None
) -> _T:
    """Return what `action` returns. Makes the folder when it is missing, and tries again."""
    for _ in range(FOLDER_ATTEMPTS):
        with suppress(FileNotFoundError):
            return action()
        with suppress(FileNotFoundError):  # another process removed a parent
            (make or make_folder)(folder)
    return action()


def _in_new_folder(folder: str, action: Callable[[], _T]) -> _T:
    """Do the same. The entry of a new folder is not synced; those of its parents are."""
    try:
        return action()
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            _make_unsynced(folder)
            return action()
    return _in_folder(Path(folder), action, _make_with_parents)


def _make_unsynced(folder: Path | str) -> None:
    with suppress(FileExistsError):
        os.mkdir(folder)  # noqa: PTH102  # the folder is often a string


def _make_with_parents(folder: Path) -> None:
    make_folder(folder.parent)
    _make_unsynced(folder)


def _give_name(descriptor: int, target: str, temporaries: str) -> None:
    """Name a file without a name. An existing `target` is replaced."""

    def link(path: str | Path) -> None:
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)

    try:
        _in_new_folder(target.rpartition("/")[0], lambda: link(target))
    except FileExistsError:
        temporary = _path_in(temporaries)
        _in_folder(temporary.parent, lambda: link(temporary))
        _rename(temporary, target)


def _path_in(temporaries: str) -> Path:
    """Return the path of a new file that no other writer uses."""
    return Path(temporaries) / secrets.token_hex(16)


def _rename(temporary: Path, target: str) -> None:
    try:
        _in_new_folder(target.rpartition("/")[0], lambda: temporary.replace(target))
    except BaseException:
        _remove(temporary)
        raise


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink(missing_ok=True)
