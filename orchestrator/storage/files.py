"""Atomic files: a file is on the disk whole, synced, and under its name, or it is not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import time

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
        OSError: the file is not written. What was at `target` before is unchanged.
        Exception: the errors of `pieces` are raised unchanged.
    """
    make_folder(temporary.parent)
    try:
        write_synced(temporary, pieces, mode=mode)
        _rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_synced(path: Path, pieces: Iterable[bytes], *, mode: int = 0o666) -> None:
    """Write a new file and sync it.

    Raises:
        OSError: the file cannot be written, or there is one already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents. Each is synced into its own parent.

    Raises:
        OSError: a folder cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
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


def _rename(temporary: Path, target: Path) -> None:
    for last in (False, False, True):
        make_folder(target.parent)
        try:
            temporary.replace(target)
            return
        except FileNotFoundError:  # another process removed the empty folder
            if last:
                raise
