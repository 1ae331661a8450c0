"""The hosts that callers want to be told at: which of them fail, and which are paused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis import Redis

from orchestrator.ledger import keys
from orchestrator.ledger.script import load

#: A host is paused after this many failures in a row, over at least this time; then it is probed
#: with one notification in each interval. ms.
FAILURES_TO_OPEN, MIN_FAILING_MS = 10, 60_000
PROBE_INTERVAL_MS = 60_000
#: What is known of a host is forgotten this long after its first failure; one that fails still is
#: soon paused again. ms.
HOST_RECORD_TTL_MS = 7 * 86_400_000


class HostState(StrEnum):
    """What a failure came to, or whether a paused host may be asked. The scripts' own words."""

    FAILING = "failing"
    PAUSED = "paused"
    STILL_PAUSED = "still_paused"
    PROBE = "probe"
    HEALTHY = "healthy"


@dataclass(frozen=True, slots=True)
class Host:
    """A host that has failed of late: how often in a row, since when (ms), its next probe (ms).

    `next_probe` is None unless it is paused.
    """

    name: str
    failures: int
    since: int
    next_probe: int | None


class CircuitBreaker:
    """What is known of hosts that fail; a host that never fails is not in here.

    Args:
        client: gives this thread's client, as the ledger uses it.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client
        self._failed = load("host_failed")
        self._probe = load("host_probe")

    def failing(self) -> dict[str, Host]:
        """Every host that has failed since it last took something."""
        with self._redis() as client:
            told: Any = client.hgetall(keys.HOSTS)
        return {name: _host(name, text) for name, text in told.items()}

    def failed(self, name: str, *, now: int) -> HostState:
        """Note a failure: FAILING, PAUSED (by this one), or STILL_PAUSED."""
        with self._redis() as client:
            args: list[str | int] = [name, now, FAILURES_TO_OPEN, MIN_FAILING_MS, PROBE_INTERVAL_MS]
            return HostState(self._failed.run(client, [keys.HOSTS], args)[0])

    def probe(self, name: str, *, now: int) -> HostState:
        """Whether to ask a host that was paused: PROBE (it is your turn), PAUSED, or HEALTHY."""
        with self._redis() as client:
            args: list[str | int] = [name, now, PROBE_INTERVAL_MS]
            return HostState(self._probe.run(client, [keys.HOSTS], args)[0])

    def forget(self, *names: str) -> None:
        """These hosts work, or are not asked any more."""
        if names:
            with self._redis() as client:
                client.hdel(keys.HOSTS, *names)


def _host(name: str, text: str) -> Host:
    failures, since, probe = map(int, text.split())
    return Host(name, failures, since, probe or None)
