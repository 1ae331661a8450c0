"""Limits deliveries to one host: a slow host holds few threads, a paused host almost none."""

from __future__ import annotations

from orchestrator import log
from orchestrator.backoff import Random, between
from orchestrator.forks import renew_in_children
from orchestrator.ledger import LedgerUnavailable
from orchestrator.ledger.circuit_breaker import PROBE_INTERVAL_MS, CircuitBreaker, Host, HostState
from orchestrator.thread_shares import ThreadShares

#: Deliveries of one process to one host at once.
SLOTS_PER_HOST = 4
#: The longest wait of a thread for a host whose calls are shorter. A delivery that goes back to the
#: ledger comes again with a sweep, so a host would get a handful of deliveries per second. Seconds.
MAX_WAIT_SECONDS = 0.5
#: Randomised wait for a paused host, in probe intervals.
PAUSED_WAIT_PROBES = (1.0, 4.0)
#: Lifetime of the cached host states. ms.
HOST_CACHE_MS = 1000


class HostLimiter:
    """Limits the deliveries of one process to each host. All threads share it.

    Args:
        threads: the threads of the process for deliveries.
    """

    def __init__(self, threads: int) -> None:
        #: The threads that deliveries use now.
        self.shares = ThreadShares(threads, SLOTS_PER_HOST, max_wait=MAX_WAIT_SECONDS)
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without known hosts, also in a child of a fork."""
        self._failing: dict[str, Host] = {}
        self._cached_at = -HOST_CACHE_MS

    def acquire(
        self, hosts: CircuitBreaker, name: str, tenant: str, now: int, random: Random
    ) -> float | None:
        """Reserve a thread: None when the host may be called now, otherwise the wait in seconds.

        After None, `release` must follow.

        Args:
            hosts: what all processes know.
            name: host and port.
            tenant: the owner of the job.
            now: ms.
            random: gives a number from 0 to 1.

        Raises:
            LedgerUnavailable: Redis is away.
        """
        known = self._known(hosts, now).get(name)
        if known and known.next_probe:
            due = known.next_probe <= now
            if not due or hosts.probe(name, now=now) is HostState.PAUSED:
                return between(PAUSED_WAIT_PROBES, random) * PROBE_INTERVAL_MS / 1000
        return self.shares.reserve(tenant, name, now, random)

    def release(
        self, hosts: CircuitBreaker, name: str, tenant: str, now: int, *, works: bool | None
    ) -> None:
        """Free a thread. `works` says whether the host works; None: it was not called."""
        self.shares.free(tenant, name)
        if works is None:
            return
        try:
            self._record(hosts, name, now, works)
        except LedgerUnavailable as error:  # a hint; the next delivery records it
            log.get().warning("host_not_recorded", host=name, reason=str(error))

    def _record(self, hosts: CircuitBreaker, name: str, now: int, works: bool) -> None:
        if not works:
            state = hosts.failed(name, now=now)
            self._cached_at = -HOST_CACHE_MS
            if state is HostState.PAUSED:
                log.get().warning("host_paused", host=name)
        elif known := self._failing.pop(name, None):
            hosts.forget(name)
            if known.next_probe:
                log.get().warning("host_resumed", host=name)

    def _known(self, hosts: CircuitBreaker, now: int) -> dict[str, Host]:
        if not 0 <= now - self._cached_at < HOST_CACHE_MS:
            self._failing = hosts.failing()
            self._cached_at = now
        return self._failing
