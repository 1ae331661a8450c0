"""The spool: what providers said while the ledger was away, one file for each.

It holds verified callbacks, and answers that accepted a submission.

A file is written atomically and synced before the provider gets its answer. Its name begins with
the time of receipt, so sorted names are in the order of receipt. Several processes may share the
folder.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from orchestrator.jsonio import NotJson, dump, parse
from orchestrator.ledger import identifiers
from orchestrator.storage.files import (
    make_folder,
    remove_stale,
    sync_folder,
    write_atomically,
    write_synced,
)

#: Suffixes of complete entries, of unreadable files and of files that are being written.
WAITING, BAD, TEMPORARY = ".callback", ".bad", ".half"
#: The limits of the spool. When it is full, callbacks are answered 503.
MAX_FILES = 10_000
MAX_TOTAL_BYTES = 256 * 1024 * 1024
#: Lifetime of the cached size of the folder. Seconds.
SIZE_CACHE_SECONDS = 1.0
#: An entry is never larger than this. Bytes.
MAX_ENTRY_BYTES = 1024 * 1024
_LOCK = ".lock"
_VERSION = 1


class SpoolError(Exception):
    """The entry is not stored: the spool is full, or the disk refuses."""


class BadEntry(Exception):
    """The file is not an entry of a spool."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A verified callback, or the answer to a submission. `received` is ms since the epoch."""

    provider: str
    job_id: str
    attempt: int
    received: int
    body: bytes
    #: The HTTP status of the answer to a submission. None: a callback.
    answer_status: int | None = None
    #: Long strings were left out of the body. A poll must confirm what it says.
    shortened: bool = False

    def stored(self) -> bytes:
        """Return the entry as bytes: one line of JSON, then the raw body."""
        header = {
            "spool": _VERSION,
            "provider": self.provider,
            "job": self.job_id,
            "attempt": self.attempt,
            "received": self.received,
            "bytes": len(self.body),
            "answer": self.answer_status,
            "shortened": self.shortened,
        }
        return dump(header) + b"\n" + self.body

    @classmethod
    def read(cls, data: bytes) -> Entry:
        """Return the entry of bytes that `stored` made.

        Raises:
            BadEntry: the bytes are something else.
        """
        line, _, body = data.partition(b"\n")
        try:
            header: Any = parse(line)
        except NotJson as error:
            raise BadEntry(f"the first line is not JSON: {error}") from None
        if not isinstance(header, dict) or header.get("spool") != _VERSION:
            raise BadEntry("the first line is not a spool header")
        names = ("provider", "job", "attempt", "received")
        values: list[Any] = [header.get(name) for name in names]
        entry = cls(*values, body, header.get("answer"), header.get("shortened") is True)  # type: ignore[call-arg]
        numbers = (entry.attempt, entry.received, entry.answer_status or 1)
        if not all(type(number) is int and number > 0 for number in numbers):
            raise BadEntry("attempt or time is not a number")
        if not isinstance(entry.provider, str) or not _is_job_id(entry.job_id):
            raise BadEntry("provider or job is missing")
        if header.get("bytes") != len(body):
            raise BadEntry(f"the body has {len(body)} bytes instead of {header.get('bytes')}")
        return entry


def _is_job_id(value: Any) -> bool:
    return isinstance(value, str) and identifiers.is_job_id(value)


class Spool:
    """The entries in a folder. The folder is created with the first entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Distinguishes processes that write in the same millisecond. In containers all have pid 1.
        self._process = secrets.token_hex(4)
        self._numbers = count()
        self._size_lock = threading.Lock()
        self._counted_at: float | None = None
        self._files = self._bytes = 0
        self._folder_synced = False

    def keep(self, entry: Entry) -> str:
        """Store an entry and sync it. Return its name.

        Raises:
            SpoolError: the entry is not stored.
        """
        data = entry.stored()
        name = f"{entry.received:015d}-{next(self._numbers) % 10**9:09d}-{self._process}{WAITING}"
        temporary = self.folder / f"{name}{TEMPORARY}"
        try:
            self._make_folder()
            self._reserve(len(data))
            write_atomically(self.folder / name, [data], temporary=temporary, mode=0o600)
        except OSError as error:
            raise SpoolError(error.strerror or type(error).__name__) from error
        return name

    def check(self) -> None:
        """Write and delete a file, as `keep` would.

        Raises:
            OSError: the folder cannot be written.
        """
        self._make_folder()
        probe = self.folder / f"{secrets.token_hex(4)}{TEMPORARY}"
        try:
            write_synced(probe, [b"probe"], mode=0o600)
        finally:
            probe.unlink(missing_ok=True)

    def waiting(self) -> list[str]:
        """Return the names of the entries in the order of receipt.

        Raises:
            OSError: the folder cannot be read.
        """
        return sorted(name for name in self._names() if name.endswith(WAITING))

    def bad(self) -> list[str]:
        """Return the names of unreadable files.

        Raises:
            OSError: the folder cannot be read.
        """
        return sorted(name for name in self._names() if name.endswith(BAD))

    def load(self, name: str) -> Entry:
        """Return an entry.

        Raises:
            BadEntry: the file is not an entry.
            OSError: the file cannot be read, or is gone.
        """
        path = self.folder / name
        if not path.is_file() and path.exists():
            raise BadEntry("it is not a file")
        with path.open("rb") as file:
            data = file.read(MAX_ENTRY_BYTES + 1)
        if len(data) > MAX_ENTRY_BYTES:
            raise BadEntry(f"it has more than {MAX_ENTRY_BYTES} bytes")
        return Entry.read(data)

    def remove(self, name: str) -> None:
        """Delete an entry that the ledger has applied."""
        (self.folder / name).unlink(missing_ok=True)

    def set_aside(self, name: str) -> None:
        """Rename an unreadable file, so that a person can look at it."""
        (self.folder / name).rename(self.folder / f"{name}{BAD}")

    def sweep(self) -> None:
        """Delete old temporary files of processes that died."""
        remove_stale(self.folder / name for name in self._names() if name.endswith(TEMPORARY))

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Lock the spool among all processes. Yields False when another process has the lock."""
        descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)  # this releases the lock

    def _make_folder(self) -> None:
        make_folder(self.folder, mode=0o700)
        if not self._folder_synced:
            # Another process may have made the folder and may not have synced it yet.
            sync_folder(self.folder.parent)
            self._folder_synced = True

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)  # noqa: PTH208  # names are enough
        except FileNotFoundError:
            return []

    def _reserve(self, size: int) -> None:
        with self._size_lock:
            now = monotonic()
            if self._counted_at is None or now - self._counted_at > SIZE_CACHE_SECONDS:
                self._recount()
                self._counted_at = now
            if self._files >= MAX_FILES or self._bytes + size > MAX_TOTAL_BYTES:
                raise SpoolError(f"full: {self._files} files, {self._bytes} bytes")
            self._files += 1
            self._bytes += size

    def _recount(self) -> None:
        self._files = self._bytes = 0
        with os.scandir(self.folder) as files:
            for file in files:
                if file.name != _LOCK:
                    with suppress(FileNotFoundError):
                        self._bytes += file.stat().st_size
                        self._files += 1
