"""The Redis of the product and of its peers that use one.

Packages and images of Redis and Valkey have the allocator jemalloc. The one from PyPI has that of
libc, and takes a fifth more CPU time for our scripts. So jemalloc is loaded where it is installed.
"""

from __future__ import annotations

import os
from ctypes.util import find_library
from pathlib import Path
from unittest.mock import patch

from orchestrator.cli.embedded_redis import EmbeddedRedis

#: The loader of Linux puts this library before all others.
PRELOAD = "LD_PRELOAD"


class BenchmarkRedis(EmbeddedRedis):
    """An embedded Redis that syncs each write before its answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, appendfsync="always")

    def start(self) -> None:
        """Start the server, with jemalloc if it is installed."""
        library = allocator()
        with patch.dict(os.environ, {PRELOAD: library} if library else {}):
            super().start()


def allocator() -> str | None:
    """Return the file name of jemalloc, or None if it is not installed."""
    return find_library("jemalloc")
