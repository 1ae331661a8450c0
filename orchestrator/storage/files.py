"""Atomic files: a file is on the disk whole, synced, and under its name, or it is not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TypeVar

_T = TypeVar("_T")

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
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        _remove(path)
        raise


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


def sync_folder(folder: Path) -> None:
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


def _in_folder(folder: Path, action: Callable[[], _T]) -> _T:
    """Return what `action` returns. Makes the folder when it is missing, and tries again."""
    for _ in range(FOLDER_ATTEMPTS):
        with suppress(FileNotFoundError):
            return action()
        with suppress(FileNotFoundError):  # another process removed a parent
            make_folder(folder)
    return action()


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink(missing_ok=True)
