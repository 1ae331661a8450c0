"""Syncs a whole file system in one call of Linux, instead of file by file."""

from __future__ import annotations

import ctypes
import os
import re
from functools import cache
from pathlib import Path

#: The types whose `syncfs` does what `fsync` does for each file. Some others ignore the call.
TYPES = frozenset({"ext4", "xfs"})
#: The first Linux whose `syncfs` reports errors of the disk.
FIRST_LINUX = (5, 8)
#: A line has the device as `major:minor`, and after a dash the type.
_MOUNT = re.compile(r"^\d+ \d+ (\d+:\d+) .* - (\S+) ", re.M)


def sync_file_system(descriptor: int) -> None:
    """Sync everything that was written to the file system of an open file.

    Raises:
        OSError: the disk failed.
    """
    libc = _libc()
    if libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@cache
def can_be_synced(device: int) -> bool:
    """Return whether `sync_file_system` does the same as a sync of each file.

    Args:
        device: of a file: `st_dev`.
    """
    system = os.uname()
    number = re.match(r"(\d+)\.(\d+)", system.release)
    if system.sysname != "Linux" or number is None or not hasattr(_libc(), "syncfs"):
        return False
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    types = dict(_MOUNT.findall(mounts))
    kind = types.get(f"{os.major(device)}:{os.minor(device)}")
    return kind in TYPES and (int(number[1]), int(number[2])) >= FIRST_LINUX


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
