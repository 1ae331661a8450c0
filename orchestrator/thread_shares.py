"""Shares the threads of one kind of work fairly between hosts, domains and tenants."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from time import monotonic

from orchestrator.backoff import Random, between
from orchestrator.forks import renew_in_children
from orchestrator.net.domains import registered_domain

#: A domain or a tenant gets another thread while it holds fewer than this many times the free
#: threads. So a domain that hangs leaves a third of the threads free, and a tenant leaves a fifth.
#: A tenant's share is larger, so one domain cannot use up the share of its tenant.
DOMAIN_SHARE, TENANT_SHARE = 2, 4
#: Randomised wait for a free thread. Seconds.
BUSY_WAIT_SECONDS = (1.0, 3.0)
#: The most jobs of one holder that come back per second after none got a thread.
RETURNS_PER_SECOND = 200
#: The longest additional wait when many jobs wait. Seconds.
MAX_QUEUE_WAIT_SECONDS = 60.0
#: The weight of the last call in the average time of a domain's calls.
LAST_CALL_WEIGHT = 0.2
#: Old waits and times are deleted when there are more than this.
MAX_REMEMBERED = 1000

#: What holds threads: the kind (host, domain or tenant) and its name.
Holder = tuple[str, str]


class ThreadShares:
    """Limits how many threads of one process work for one host, one domain and one tenant.

    Args:
        threads: all threads of this kind of work in the process.
        slots_per_host: the most threads for one host; None sets no limit of its own.
        max_wait: the longest wait of a thread for the share of a domain with fast calls, seconds. A
            job that goes back to the ledger costs two calls there, so a short wait is cheaper.
        timer: gives the time of this process, seconds.
    """

    def __init__(
        self,
        threads: int,
        slots_per_host: int | None = None,
        *,
        max_wait: float = 0.0,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        self._threads = threads
        self._slots = threads if slots_per_host is None else slots_per_host
        self._max_wait = max_wait
        self._timer = timer
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without calls, also in a child of a fork."""
        self._lock = threading.Lock()
        #: Where threads wait for a host, or for a tenant if nothing is called.
        self._waiting: dict[Holder, threading.Condition] = {}
        self._waiters: Counter[Holder] = Counter()
        #: When each call of a holder began, the oldest first.
        self._calls: dict[Holder, deque[float]] = {}
        self._used = 0
        #: When the last job that waits for a holder comes back. ms.
        self._turns: dict[Holder, float] = {}
        #: The average time of a domain's calls.
        self._seconds: dict[Holder, float] = {}

    def reserve(self, tenant: str, host: str | None, now: int, random: Random) -> float | None:
        """Reserve a thread: None when it may be used now, otherwise the wait in seconds.

        After None, `free` must follow.

        Args:
            tenant: the owner of the job.
            host: what is called, with or without a port. None if it is our own server.
            now: ms.
            random: gives a number from 0 to 1.
        """
        holders, timed = _holders(tenant, host)
        with self._lock:
            busy = self._busy(holders)
            if busy and self._seconds.get(timed, 0.0) < self._max_wait:
                busy = self._waited(holders)
                if busy:  # the calls are slow: no other thread waits for them
                    self._seconds[timed] = self._max_wait
            if busy:
                return self._wait(busy, timed, now, random)
            self._begin(holders)
        return None

    def reserve_now(self, tenant: str, host: str | None) -> bool:
        """Reserve a thread without a wait. Return whether it may be used now."""
        holders, _ = _holders(tenant, host)
        with self._lock:
            if self._busy(holders):
                return False
            self._begin(holders)
        return True

    def free(self, tenant: str, host: str | None) -> None:
        """Give a thread back."""
        holders, timed = _holders(tenant, host)
        with self._lock:
            self._used -= 1
            for holder in holders.values():
                began = self._calls[
                    holder
                ].popleft()  # the oldest call, maybe another one: the average is right
                if not self._calls[holder]:
                    del self._calls[holder]
                if holder == timed:
                    self._learn(holder, self._timer() - began)
            for condition in self._waiting.values():
                condition.notify()  # a free thread lets at most one more call begin

    def _begin(self, holders: Mapping[str, Holder]) -> None:
        for holder in holders.values():
            self._calls.setdefault(holder, deque()).append(self._timer())
        self._used += 1

    def _waited(self, holders: Mapping[str, Holder]) -> Holder | None:
        """Wait for a thread. Return a holder that may still have no further one, or None."""
        place = holders.get("host", holders["tenant"])
        condition = self._waiting.setdefault(place, threading.Condition(self._lock))
        self._waiters[place] += 1
        condition.wait_for(lambda: self._busy(holders) is None, self._max_wait)
        self._waiters[place] -= 1
        if not self._waiters[place]:
            del self._waiters[place], self._waiting[place]
        return self._busy(holders)

    def _busy(self, holders: Mapping[str, Holder]) -> Holder | None:
        """Return a holder that may have no further thread now, or None."""
        free = max(self._threads - self._used, 0)
        limits = {"host": self._slots, "domain": DOMAIN_SHARE * free, "tenant": TENANT_SHARE * free}
        over = (holder for kind, holder in holders.items() if self._held(holder) >= limits[kind])
        return next(over, None)

    def _held(self, holder: Holder) -> int:
        return len(self._calls.get(holder, ()))

    def _learn(self, domain: Holder, seconds: float) -> None:
        _trim(self._seconds, lambda known: known >= self._max_wait)
        before = self._seconds.get(domain, seconds)
        self._seconds[domain] = before + LAST_CALL_WEIGHT * (seconds - before)

    def _wait(self, holder: Holder, domain: Holder, now: int, random: Random) -> float:
        """Return the wait of a job. Jobs come back as fast as the calls of their holder end."""
        _trim(self._turns, lambda turn: turn > now)
        spread = int((BUSY_WAIT_SECONDS[1] - BUSY_WAIT_SECONDS[0]) * 1000)
        each = 1000 * self._seconds.get(domain, 0.0) / max(self._held(holder), 1)
        turn = max(self._turns.get(holder, 0), now) + max(each, 1000 / RETURNS_PER_SECOND)
        self._turns[holder] = min(turn, now + spread + MAX_QUEUE_WAIT_SECONDS * 1000)
        queue = max(self._turns[holder] - now - spread, 0) / 1000
        return between(BUSY_WAIT_SECONDS, random) + queue


def _trim(remembered: dict[Holder, float], keeps: Callable[[float], bool]) -> None:
    """Delete old entries when there are many: first those that are not kept, then all."""
    if len(remembered) > MAX_REMEMBERED:
        for holder in [each for each, value in remembered.items() if not keeps(value)]:
            del remembered[holder]
    if len(remembered) > MAX_REMEMBERED:
        remembered.clear()


def _holders(tenant: str, host: str | None) -> tuple[Mapping[str, Holder], Holder]:
    """Return the holders of a thread by kind, and the one whose calls are timed."""
    names = {"tenant": tenant}
    if host is not None:
        names = {"host": host, "domain": registered_domain(host), "tenant": tenant}
    holders = {kind: (kind, name) for kind, name in names.items()}
    return holders, holders.get("domain", holders["tenant"])
