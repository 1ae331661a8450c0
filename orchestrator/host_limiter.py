"""Which host may be asked now: a slow one holds few of our threads, a dead one hardly any."""

from __future__ import annotations

import threading
from collections import Counter

from orchestrator import log
from orchestrator.backoff import Random
from orchestrator.ledger import LedgerUnavailable
from orchestrator.ledger.circuit_breaker import PROBE_INTERVAL_MS, CircuitBreaker, Host, HostState

#: How many notifications of one process may be under way to one host.
SLOTS = 4
#: How long those wait for which there is no slot: from, to, seconds.
BUSY = (1.0, 3.0)
#: How long those wait whose host is paused: from, to, in times between probes. They all come back
#: to ask, so they are spread.
PAUSED = (1.0, 4.0)
#: How long what Redis told of the hosts is held for true. ms.
FRESH = 1000


class HostLimiter:
    """Gives out turns at hosts. Shared by the threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._failing: dict[str, Host] = {}
        self._seen_at = -FRESH

    def acquire(self, hosts: CircuitBreaker, name: str, now: int, random: Random) -> float | None:
        """None when `name` may be asked now, then `release` must follow; else how long to wait.

        Args:
            hosts: what all processes know.
            name: host and port.
            now: ms.
            random: gives a number from 0 to 1.

        Raises:
            LedgerUnavailable: Redis is away.
        """
        known = self._known(hosts, now).get(name)
        if known and known.next_probe:
            due = known.next_probe <= now
            if not due or hosts.probe(name, now=now) is HostState.PAUSED:
                return _between(PAUSED, random) * PROBE_INTERVAL_MS / 1000
        with self._lock:
            if self._busy[name] >= SLOTS:
                return _between(BUSY, random)
            self._busy[name] += 1
        return None

    def release(self, hosts: CircuitBreaker, name: str, now: int, *, works: bool | None) -> None:
        """The turn is over. `works`: the host answered as one that works; None: nobody asked it."""
        with self._lock:
            self._busy[name] -= 1
            if not self._busy[name]:
                del self._busy[name]
        if works is None:
            return
        try:
            self._note(hosts, name, now, works)
        except LedgerUnavailable as error:  # hints only; the next one notes it
            log.get().warning("host_not_noted", host=name, why=str(error))

    def _note(self, hosts: CircuitBreaker, name: str, now: int, works: bool) -> None:
        if not works:
            state = hosts.failed(name, now=now)
            self._seen_at = -FRESH
            if state is HostState.PAUSED:
                log.get().warning("host_paused", host=name)
        elif known := self._failing.pop(name, None):
            hosts.forget(name)
            if known.next_probe:
                log.get().warning("host_resumed", host=name)

    def _known(self, hosts: CircuitBreaker, now: int) -> dict[str, Host]:
        if not 0 <= now - self._seen_at < FRESH:
            self._failing = hosts.failing()
            self._seen_at = now
        return self._failing


def _between(bounds: tuple[float, float], random: Random) -> float:
    low, high = bounds
    return low + (high - low) * random()
