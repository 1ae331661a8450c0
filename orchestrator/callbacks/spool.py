"""Callbacks that were verified while the ledger was away: a file for each, until it is back.

A file is there whole or not at all: it is written under another name, synced, renamed, and its
folder synced, before the provider is told that we have it. Its name begins with the time of
receipt, so sorted names are the order of receipt. Several processes may share the folder.
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
from orchestrator.ledger import keys
from orchestrator.storage.files import remove_stale, write_atomically, write_synced

#: What waits, what could not be read and is kept for a person, and what is being written.
WAITING, BAD, HALF = ".callback", ".bad", ".half"
#: The most that is kept; beyond it providers are told to deliver again. Files, bytes.
MOST_FILES = 10_000
MOST_BYTES = 256 * 1024 * 1024
#: How long a count of the folder is gone by. Seconds.
RECOUNT = 1.0
#: More than any entry that we write. Bytes.
LARGEST = 1024 * 1024
_LOCK = ".lock"
_FORM = 1


class SpoolError(Exception):
    """The entry is not kept: the spool is full, or the disk refuses."""


class BadEntry(Exception):
    """A file that is no entry of a spool."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A verified callback; `received` is ms since the epoch."""

    provider: str
    job_id: str
    attempt: int
    received: int
    body: bytes

    def stored(self) -> bytes:
        """A line about it, and the body as it came."""
        about = {
            "spool": _FORM,
            "provider": self.provider,
            "job": self.job_id,
            "attempt": self.attempt,
            "received": self.received,
            "bytes": len(self.body),
        }
        return dump(about) + b"\n" + self.body

    @classmethod
    def read(cls, data: bytes) -> Entry:
        """The entry that `stored` wrote.

        Raises:
            BadEntry: it did not.
        """
        line, _, body = data.partition(b"\n")
        try:
            about: Any = parse(line)
        except NotJson as error:
            raise BadEntry(f"its first line is not JSON: {error}") from None
        if not isinstance(about, dict) or about.get("spool") != _FORM:
            raise BadEntry("its first line is not ours")
        named: list[Any] = [about.get(n) for n in ("provider", "job", "attempt", "received")]
        entry = cls(named[0], named[1], named[2], named[3], body)
        numbers = (entry.attempt, entry.received)
        if not all(type(number) is int and number > 0 for number in numbers):
            raise BadEntry("its attempt or time is no number")
        if not isinstance(entry.provider, str) or not _is_job_id(entry.job_id):
            raise BadEntry("it names no provider or no job")
        if about.get("bytes") != len(body):
            raise BadEntry(f"its body has {len(body)} bytes, and had {about.get('bytes')}")
        return entry


def _is_job_id(value: Any) -> bool:
    return isinstance(value, str) and keys.is_job_id(value)


class Spool:
    """The entries in a folder, which is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Tells apart what processes write in the same millisecond; in containers all are number 1.
        self._own = secrets.token_hex(4)
        self._numbers = count()
        self._counting = threading.Lock()
        self._counted_at: float | None = None
        self._files = self._bytes = 0

    def keep(self, entry: Entry) -> None:
        """Have an entry on the disk, synced.

        Raises:
            SpoolError: it is not.
        """
        data = entry.stored()
        name = f"{entry.received:015d}-{next(self._numbers) % 10**9:09d}-{self._own}{WAITING}"
        half = self.folder / f"{name}{HALF}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_room(len(data))
            write_atomically(self.folder / name, [data], temporary=half, mode=0o600)
        except OSError as error:
            raise SpoolError(error.strerror or type(error).__name__) from error

    def check(self) -> None:
        """Write something and take it away again, as `keep` would.

        Raises:
            OSError: nothing can be kept here.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = self.folder / f"{secrets.token_hex(4)}{HALF}"
        try:
            write_synced(probe, [b"probe"], mode=0o600)
        finally:
            probe.unlink(missing_ok=True)

    def waiting(self) -> list[str]:
        """The names of what waits, in the order of receipt.

        Raises:
            OSError: the folder cannot be read.
        """
        return sorted(name for name in self._names() if name.endswith(WAITING))

    def bad(self) -> list[str]:
        """The names of what was put aside.

        Raises:
            OSError: the folder cannot be read.
        """
        return sorted(name for name in self._names() if name.endswith(BAD))

    def load(self, name: str) -> Entry:
        """One that waits.

        Raises:
            BadEntry: the file is none of ours.
            OSError: it cannot be read, or is gone.
        """
        path = self.folder / name
        if not path.is_file() and path.exists():
            raise BadEntry("it is no file")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise BadEntry(f"it has more than {LARGEST} bytes")
        return Entry.read(data)

    def remove(self, name: str) -> None:
        """Forget one: the ledger has it."""
        (self.folder / name).unlink(missing_ok=True)

    def put_aside(self, name: str) -> None:
        """Keep one for a person to look at."""
        (self.folder / name).rename(self.folder / f"{name}{BAD}")

    def sweep(self) -> None:
        """Remove what processes that died had half written: nobody was told that we have it."""
        remove_stale(self.folder / name for name in self._names() if name.endswith(HALF))

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """The sole right to take entries out, among all processes; False: another one has it."""
        descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)  # which gives the lock back

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)  # noqa: PTH208  # names are what is wanted
        except FileNotFoundError:
            return []

    def _take_room(self, size: int) -> None:
        with self._counting:
            now = monotonic()
            if self._counted_at is None or now - self._counted_at > RECOUNT:
                self._recount()
                self._counted_at = now
            if self._files >= MOST_FILES or self._bytes + size > MOST_BYTES:
                raise SpoolError(f"full: {self._files} files, {self._bytes} bytes")
            self._files += 1
            self._bytes += size

    def _recount(self) -> None:
        self._files = self._bytes = 0
        with os.scandir(self.folder) as found:
            for file in found:
                if file.name != _LOCK:
                    with suppress(FileNotFoundError):
                        self._bytes += file.stat().st_size
                        self._files += 1
