"""Shares the places of one kind of work fairly between hosts, domains and tenants.

A place is a call that may be open. A step without a place waits for one while its turn comes soon.
In a step loop, other steps run meanwhile. Outside of one, the thread is blocked.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush
from time import monotonic

from orchestrator.backoff import Random, between
from orchestrator.forks import renew_in_children
from orchestrator.net.domains import registered_domain
from orchestrator.step_loop import Alarm

#: A domain or a tenant gets another place while it holds fewer than this many times the free
#: places. So a domain that hangs leaves a third of the places free, and a tenant leaves a fifth.
#: A tenant's share is larger, so one domain cannot use up the share of its tenant.
DOMAIN_SHARE, TENANT_SHARE = 2, 4
#: Randomised wait of a job that goes back to the ledger while few others do. Seconds.
BUSY_WAIT_SECONDS = (1.0, 3.0)
#: The most jobs of one holder that come back per second after none got a place.
RETURNS_PER_SECOND = 200
#: Jobs come back in this part of the time that the calls before them take. So there is always one
#: that waits when a call ends.
RETURN_SHARE = 0.8
#: The longest time over which many jobs come back. Seconds.
MAX_QUEUE_WAIT_SECONDS = 60.0
#: The assumed time of a call when none has ended yet. Seconds.
UNKNOWN_CALL_SECONDS = 0.1
#: A step waits for at most this many times its longest expected wait. Calls take longer at times.
WAIT_FACTOR = 2
#: The weight of the last call in the average time of a holder's calls.
LAST_CALL_WEIGHT = 0.2
#: Old waits and times are deleted when there are more than this.
MAX_REMEMBERED = 3000

#: What holds places: the kind (host, domain or tenant) and its name.
Holder = tuple[str, str]
#: The holders of a place by kind.
Holders = Mapping[str, Holder]


@dataclass(slots=True)
class _Turn:
    """A step that waits for a place. `has_place` says whether it got one."""

    holders: Holders
    alarm: Alarm = field(default_factory=Alarm)
    has_place: bool = False


class PlaceShares:
    """Limits how many calls of one process are open to one host, of one domain and of one tenant.

    Args:
        places: all places for this kind of work in the process.
        slots_per_host: the most places for one host; None sets no limit of its own.
        max_wait: the longest expected wait for a place, seconds. A step whose turn comes later
            does not wait. Its job goes back to the ledger, which costs two calls there.
        timer: gives the time of this process, seconds.
    """

    def __init__(
        self,
        places: int,
        slots_per_host: int | None = None,
        *,
        max_wait: float = 0.0,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        self._places = places
        self._slots = places if slots_per_host is None else slots_per_host
        self._max_wait = max_wait
        self._timer = timer
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without calls, also in a child of a fork."""
        self._lock = threading.Lock()
        #: The steps that wait for a host, or for a tenant if nothing is called. The host that has
        #: waited longest for its turn is the first.
        self._turns: OrderedDict[Holder, deque[_Turn]] = OrderedDict()
        self._waiters: Counter[Holder] = Counter()
        #: When each call of a holder began, the oldest first.
        self._calls: dict[Holder, deque[float]] = {}
        self._used = 0
        #: When the jobs that went back to the ledger for a holder come again. ms.
        self._returns: dict[Holder, list[int]] = {}
        #: The average time of a holder's calls.
        self._seconds: dict[Holder, float] = {}

    def reserve(self, tenant: str, host: str | None, now: int, random: Random) -> float | None:
        """Reserve a place: None when it may be used now, otherwise the wait in seconds.

        It waits itself if the turn comes within the longest expected wait. After None, `free` must
        follow.

        Args:
            tenant: the owner of the job.
            host: what is called, with or without a port. None if it is our own server.
            now: ms.
            random: gives a number from 0 to 1.
        """
        holders = _holders(tenant, host)
        with self._lock:
            busy = self._busy(holders)
            if busy is None:
                self._begin(holders)
                return None
            if self._expected_wait(busy, holders) >= self._max_wait:
                return self._wait(busy, now, random)
            turn = self._join(holders)
        turn.alarm.wait(WAIT_FACTOR * self._max_wait)
        with self._lock:
            if turn.has_place:
                return None
            self._leave(turn)
            busy = self._busy(holders) or busy
            self._learn_from_open_call(busy)
            return self._wait(busy, now, random)

    def free(self, tenant: str, host: str | None) -> None:
        """Give a place back."""
        with self._lock:
            self._used -= 1
            for holder in _holders(tenant, host).values():
                # the oldest call, maybe another one: the average is right
                began = self._calls[holder].popleft()
                if not self._calls[holder]:
                    del self._calls[holder]
                self._learn(holder, self._timer() - began)
            self._begin_next()

    def _begin(self, holders: Holders) -> None:
        for holder in holders.values():
            self._calls.setdefault(holder, deque()).append(self._timer())
        self._used += 1

    def _begin_next(self) -> None:
        """Give free places to steps that wait, of every host in turn.

        One free place may let several begin: a tenant gets four more, and a host one.
        """
        while turn := self._next_turn():
            self._turns.move_to_end(_place(turn.holders))
            self._leave(turn)
            self._begin(turn.holders)
            turn.has_place = True
            turn.alarm.ring()

    def _next_turn(self) -> _Turn | None:
        """Return a step that may have a place now, of the host that has waited longest.

        A tenant that holds its share does not delay the others at the same host.
        """
        if self._used >= self._places:
            return None
        for place, turns in self._turns.items():
            is_full = place[0] == "host" and self._held(place) >= self._slots
            for turn in () if is_full else turns:
                if self._busy(turn.holders) is None:
                    return turn
        return None

    def _join(self, holders: Holders) -> _Turn:
        turn = _Turn(holders)
        self._turns.setdefault(_place(holders), deque()).append(turn)
        self._waiters.update(holders.values())
        return turn

    def _leave(self, turn: _Turn) -> None:
        place = _place(turn.holders)
        self._turns[place].remove(turn)
        if not self._turns[place]:
            del self._turns[place]
        for holder in turn.holders.values():
            self._waiters[holder] -= 1
            if not self._waiters[holder]:
                del self._waiters[holder]

    def _busy(self, holders: Holders) -> Holder | None:
        """Return a holder that may have no further place now, or None."""
        free = max(self._places - self._used, 0)
        limits = {"host": self._slots, "domain": DOMAIN_SHARE * free, "tenant": TENANT_SHARE * free}
        over = (holder for kind, holder in holders.items() if self._held(holder) >= limits[kind])
        return next(over, None)

    def _held(self, holder: Holder) -> int:
        return len(self._calls.get(holder, ()))

    def _expected_wait(self, busy: Holder, holders: Holders) -> float:
        """Return when a further step would have its turn, seconds.

        A new host is taken for one like the others of its domain, or of its tenant.
        """
        like = (busy, *holders.values())
        known = (self._seconds[holder] for holder in like if holder in self._seconds)
        seconds = next(known, UNKNOWN_CALL_SECONDS)
        return (self._waiters[busy] + 1) * seconds / max(self._held(busy), 1)

    def _learn(self, holder: Holder, seconds: float) -> None:
        _trim(self._seconds, lambda known: known >= self._max_wait)
        before = self._seconds.get(holder, seconds)
        self._seconds[holder] = before + LAST_CALL_WEIGHT * (seconds - before)

    def _learn_from_open_call(self, holder: Holder) -> None:
        """Count the oldest open call as if it had ended. A host that hangs ends none."""
        if began := self._calls.get(holder):
            seconds = self._timer() - began[0]
            self._seconds[holder] = max(self._seconds.get(holder, 0.0), seconds)

    def _wait(self, holder: Holder, now: int, random: Random) -> float:
        """Return the wait of a job that goes back to the ledger.

        The jobs come back evenly over the time in which the calls for them end, and a little
        earlier. So there are some for a free place at any time, and the last ones come soon.
        """
        returns = self._returns_of(holder, now)
        each = RETURN_SHARE * self._seconds.get(holder, 0.0) / max(self._held(holder), 1)
        queue = len(returns) * max(each, 1 / RETURNS_PER_SECOND)
        shortest, longest = BUSY_WAIT_SECONDS
        last = max(longest, shortest + min(queue, MAX_QUEUE_WAIT_SECONDS))
        wait = between((shortest, last), random)
        if len(returns) < RETURNS_PER_SECOND * MAX_QUEUE_WAIT_SECONDS:  # more change nothing
            heappush(returns, now + int(wait * 1000))
        return wait

    def _returns_of(self, holder: Holder, now: int) -> list[int]:
        """Return when the jobs of a holder that went back will come again, as a heap."""
        if len(self._returns) > MAX_REMEMBERED:
            self._returns = {h: times for h, times in self._returns.items() if now < max(times)}
        if len(self._returns) > MAX_REMEMBERED:
            self._returns.clear()
        returns = self._returns.setdefault(holder, [])
        while returns and returns[0] <= now:
            heappop(returns)
        return returns


def _trim(remembered: dict[Holder, float], keeps: Callable[[float], bool]) -> None:
    """Delete old entries when there are many: first those that are not kept, then all."""
    if len(remembered) > MAX_REMEMBERED:
        for holder in [each for each, value in remembered.items() if not keeps(value)]:
            del remembered[holder]
    if len(remembered) > MAX_REMEMBERED:
        remembered.clear()


@lru_cache(MAX_REMEMBERED)
def _holders(tenant: str, host: str | None) -> Holders:
    if host is None:
        return {"tenant": ("tenant", tenant)}
    names = {"host": host, "domain": registered_domain(host), "tenant": tenant}
    return {kind: (kind, name) for kind, name in names.items()}


def _place(holders: Holders) -> Holder:
    """Return where a step waits: at its host, or at its tenant if nothing is called."""
    return holders.get("host", holders["tenant"])
