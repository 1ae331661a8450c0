"""The processes of an installation, and when each was last heard. They decide nothing.

The fields of the hash are `<kind> <pid> <host>`. Their values are the start and the last sign of
life (ms), and the version. A killed process stays in the hash until another one starts an hour
later. So a sign of life is one command, and Redis needs no expiry of fields.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis import Redis

from orchestrator.ledger import keys
from orchestrator.ledger.installation import Installation

#: A process that was not heard for this long is silent. ms.
SILENT_MS = 15_000
#: A silent process is forgotten after this time. ms.
FORGOTTEN_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the product.

    Attributes:
        kind: web, worker, beat, intake or recorder.
        host: the name of its host or container.
        pid: its number there.
        version: of the product.
        started_at: ms.
        seen_at: when it was last heard, ms.
    """

    kind: str
    host: str
    pid: int
    version: str
    started_at: int
    seen_at: int

    def is_silent(self, now: int) -> bool:
        """Return whether it was not heard lately. It may have ended, or have lost Redis."""
        return now - self.seen_at > SILENT_MS


class Processes:
    """The processes of an installation.

    Args:
        client: returns the client of this thread.
        installation: which the processes join.
    """

    def __init__(
        self, client: Callable[[], AbstractContextManager[Redis]], installation: Installation
    ) -> None:
        self._redis = client
        self._installation = installation

    def record(self, process: Process) -> None:
        """Record that a process lives.

        Raises:
            LedgerMismatch: it does not fit the ledger any more.
        """
        facts = f"{process.started_at} {process.seen_at} {process.version}"
        self._installation.join(_name(process), facts)

    def forget(self, *processes: Process) -> None:
        """Forget processes, because they stop or are silent."""
        if processes:
            with self._redis() as client:
                client.hdel(keys.PROCESSES, *map(_name, processes))

    def known(self) -> list[Process]:
        """Return every recorded process, by kind and host."""
        with self._redis() as client:
            stored: Any = client.hgetall(keys.PROCESSES)
        return sorted(
            (_process(name, facts) for name, facts in stored.items()),
            key=lambda each: (each.kind, each.host, each.pid),
        )

    def alive(self, *, now: int) -> list[Process]:
        """Return the processes that were heard within an hour, by kind and host."""
        return [each for each in self.known() if now - each.seen_at <= FORGOTTEN_MS]


def _name(process: Process) -> str:
    return f"{process.kind} {process.pid} {process.host}"


def _process(name: str, facts: str) -> Process:
    kind, pid, host = name.split(" ", 2)
    started_at, seen_at, version = facts.split(" ", 2)
    return Process(kind, host, int(pid), version, int(started_at), int(seen_at))
