"""Shares the threads of one kind of work fairly between hosts, domains and tenants."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from orchestrator.backoff import Random, between
from orchestrator.forks import renew_in_children
from orchestrator.net.domains import registered_domain

#: A domain or a tenant gets another thread while it holds fewer than this many times the free
#: threads. So one that hangs leaves a part of the threads free: a third, and a fifth. A tenant's
#: part is larger, so one domain cannot use up the part of its tenant.
DOMAIN_SHARE, TENANT_SHARE = 2, 4
#: Randomised wait for a free thread. Seconds.
BUSY_WAIT_SECONDS = (1.0, 3.0)
#: How many jobs of one host, domain or tenant come back per second when none got a thread.
RETURNS_PER_SECOND = 200
#: The longest additional wait when many jobs wait. Seconds.
MAX_QUEUE_WAIT_SECONDS = 60.0
#: Old waits are deleted when there are more than this.
MAX_TURNS = 1000

#: What holds threads: the kind (host, domain or tenant) and its name.
Holder = tuple[str, str]


class ThreadShares:
    """Limits how many threads of one process work for one host, one domain and one tenant.

    Args:
        threads: all threads of this kind of work in the process.
        slots_per_host: the most threads for one host; None sets no limit of its own.
    """

    def __init__(self, threads: int, slots_per_host: int | None = None) -> None:
        self._threads = threads
        self._slots = threads if slots_per_host is None else slots_per_host
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without calls, also in a child of a fork."""
        self._lock = threading.Lock()
        self._held: Counter[Holder] = Counter()
        self._used = 0
        #: When the last job that waits for a holder comes back. ms.
        self._turns: dict[Holder, int] = {}

    def reserve(self, tenant: str, host: str, now: int, random: Random) -> float | None:
        """Reserve a thread: None when it may be used now, otherwise the wait in seconds.

        After None, `free` must follow.

        Args:
            tenant: the owner of the job.
            host: what is called, with or without a port.
            now: ms.
            random: gives a number from 0 to 1.
        """
        holders = _holders(tenant, host)
        with self._lock:
            for kind, holder in holders.items():
                if self._held[holder] >= self._limit(kind):
                    return self._wait(holder, now, random)
            self._held.update(holders.values())
            self._used += 1
        return None

    def free(self, tenant: str, host: str) -> None:
        """Give a thread back."""
        with self._lock:
            self._used -= 1
            for holder in _holders(tenant, host).values():
                self._held[holder] -= 1
                if not self._held[holder]:
                    del self._held[holder]

    def _limit(self, kind: str) -> int:
        """Return how many threads a holder may have before it gets another one."""
        free = max(self._threads - self._used, 0)
        shares = {"host": self._slots, "domain": DOMAIN_SHARE * free, "tenant": TENANT_SHARE * free}
        return shares[kind]

    def _wait(self, holder: Holder, now: int, random: Random) -> float:
        """Return the wait of a job. The more jobs of a holder wait, the later they come back."""
        if len(self._turns) > MAX_TURNS:
            self._turns = {each: turn for each, turn in self._turns.items() if turn > now}
        low, high = BUSY_WAIT_SECONDS
        latest = now + int((high - low + MAX_QUEUE_WAIT_SECONDS) * 1000)
        turn = max(self._turns.get(holder, 0), now) + 1000 // RETURNS_PER_SECOND
        self._turns[holder] = min(turn, latest)
        queue = max(self._turns[holder] - now - int((high - low) * 1000), 0) / 1000
        return between(BUSY_WAIT_SECONDS, random) + queue


def _holders(tenant: str, host: str) -> Mapping[str, Holder]:
    names = {"host": host, "domain": registered_domain(host), "tenant": tenant}
    return {kind: (kind, name) for kind, name in names.items()}
