"""Limits deliveries to one host: a slow host holds few places, a paused host almost none."""

from __future__ import annotations

from orchestrator import log
from orchestrator.backoff import Random, between
from orchestrator.forks import renew_in_children
from orchestrator.ledger import LedgerUnavailable
from orchestrator.ledger.circuit_breaker import PROBE_INTERVAL_MS, CircuitBreaker, Host, HostState
from orchestrator.place_shares import WAIT_FACTOR, PlaceShares
from orchestrator.step_loop import in_thread

#: Deliveries of one process to one host at once.
SLOTS_PER_HOST = 4
#: The longest expected wait for a slot of a host. What goes back to the ledger comes again with a
#: sweep. So a host is called all the time only while the deliveries of more than a second wait
#: here. Seconds.
MAX_WAIT_SECONDS = 2.0
#: The longest wait. Seconds.
LONGEST_WAIT_SECONDS = WAIT_FACTOR * MAX_WAIT_SECONDS
#: Randomised wait for a paused host, in probe intervals.
PAUSED_WAIT_PROBES = (1.0, 4.0)
#: Lifetime of the cached host states. ms.
HOST_CACHE_MS = 1000


class HostLimiter:
    """Limits the deliveries of one process to each host. All threads share it.

    Args:
        places: the deliveries of the process at once.
        max_wait: the longest expected wait for a slot of a host, seconds.
    """

    def __init__(self, places: int, *, max_wait: float = MAX_WAIT_SECONDS) -> None:
        #: The places that deliveries use now.
        self.shares = PlaceShares(places, SLOTS_PER_HOST, max_wait=max_wait)
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without known hosts, also in a child of a fork."""
        self._failing: dict[str, Host] = {}
        self._cached_at = -HOST_CACHE_MS

    def acquire(
        self, hosts: CircuitBreaker, name: str, tenant: str, now: int, random: Random
    ) -> float | None:
        """Reserve a place: None when the host may be called now, otherwise the wait in seconds.

        It waits itself if its turn comes soon. In a step loop, other steps run meanwhile. After
        None, `release` must follow.

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
            if not due or in_thread(hosts.probe, name, now=now) is HostState.PAUSED:
                return between(PAUSED_WAIT_PROBES, random) * PROBE_INTERVAL_MS / 1000
        return self.shares.reserve(tenant, name, now, random)

    def release(
        self, hosts: CircuitBreaker, name: str, tenant: str, now: int, *, works: bool | None
    ) -> None:
        """Free a place. `works` says whether the host works; None: it was not called."""
        self.shares.free(tenant, name)
        if works is None:
            return
        try:
            self._record(hosts, name, now, works)
        except LedgerUnavailable as error:  # a hint; the next delivery records it
            log.get().warning("host_not_recorded", host=name, reason=str(error))

    def _record(self, hosts: CircuitBreaker, name: str, now: int, works: bool) -> None:
        if not works:
            state = in_thread(hosts.failed, name, now=now)
            self._cached_at = -HOST_CACHE_MS
            if state is HostState.PAUSED:
                log.get().warning("host_paused", host=name)
        elif known := self._failing.pop(name, None):
            in_thread(hosts.forget, name)
            if known.next_probe:
                log.get().warning("host_resumed", host=name)

    def _known(self, hosts: CircuitBreaker, now: int) -> dict[str, Host]:
        before = self._cached_at
        if not 0 <= now - before < HOST_CACHE_MS:
            self._cached_at = now  # one step reads, and the others use the last states
            try:
                self._failing = in_thread(hosts.failing)
            except LedgerUnavailable:
                self._cached_at = before
                raise
        return self._failing
