"""The circuit breaker of notification hosts. It pauses hosts that fail again and again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis import Redis

from orchestrator.ledger import keys
from orchestrator.ledger.script import load

#: A host is paused after this many consecutive failures over at least this time. Then it is probed
#: with one notification per interval. ms.
FAILURES_TO_OPEN, MIN_FAILING_MS = 10, 60_000
PROBE_INTERVAL_MS = 60_000
#: The record of a host is deleted this long after its first failure. A host that still fails is
#: soon paused again. ms.
HOST_RECORD_TTL_MS = 7 * 86_400_000


class HostState(StrEnum):
    """The state of a host, as the scripts return it."""

    FAILING = "failing"
    PAUSED = "paused"
    STILL_PAUSED = "still_paused"
    PROBE = "probe"
    HEALTHY = "healthy"


@dataclass(frozen=True, slots=True)
class Host:
    """A failing host: consecutive failures, the first failure (ms), and the next probe (ms).

    `next_probe` is None unless the host is paused.
    """

    name: str
    failures: int
    since: int
    next_probe: int | None


class CircuitBreaker:
    """The records of failing hosts. A host without failures has no record.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client
        self._failed = load("host_failed")
        self._probe = load("host_probe")

    def failing(self) -> dict[str, Host]:
        """Return every host that has failed since its last success."""
        with self._redis() as client:
            records: Any = client.hgetall(keys.HOSTS)
        return {name: _host(name, text) for name, text in records.items()}

    def failed(self, name: str, *, now: int) -> HostState:
        """Record a failure. Return FAILING, PAUSED (by this failure) or STILL_PAUSED."""
        with self._redis() as client:
            args: list[str | int] = [name, now, FAILURES_TO_OPEN, MIN_FAILING_MS, PROBE_INTERVAL_MS]
            return HostState(self._failed.run(client, [keys.HOSTS], args)[0])

    def probe(self, name: str, *, now: int) -> HostState:
        """Ask to call a host. Return PROBE (the caller may probe it), PAUSED or HEALTHY."""
        with self._redis() as client:
            args: list[str | int] = [name, now, PROBE_INTERVAL_MS]
            return HostState(self._probe.run(client, [keys.HOSTS], args)[0])

    def forget(self, *names: str) -> None:
        """Delete the records of hosts, because they work or are not used any more."""
        if names:
            with self._redis() as client:
                client.hdel(keys.HOSTS, *names)


def _host(name: str, text: str) -> Host:
    failures, since, probe = map(int, text.split())
    return Host(name, failures, since, probe or None)
