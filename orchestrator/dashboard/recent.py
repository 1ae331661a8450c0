"""Figures that several pages show, and that are read once for all of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from orchestrator.dashboard import views
from orchestrator.forks import renew_in_children

#: Figures are read again after this time. Seconds.
MIN_AGE_SECONDS = 1.0
#: A figure that takes long to read is used for this many times as long. So reading it takes at most
#: two percent of the time.
AGE_PER_COST = 50
#: The most figures that are kept, of as many keys.
MAX_RECENT = 1000
#: The figures of an interval are used for this part of the time since its end, because late
#: outcomes are rare. So a page of many intervals reads only the last ones.
AGE_PER_TIME = 1 / 30
#: But not for longer than this. Seconds.
MAX_AGE_SECONDS = 600.0

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Figure(Generic[V]):
    value: V
    until: float
    is_cheap: bool


class Recent(Generic[K, V]):
    """Keeps the figures of each key for a moment.

    Args:
        clock: seconds.
        provisional: is called when a cheap figure is used again: it may be older than a change.
    """

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        provisional: Callable[[], None] = views.provisional,
    ) -> None:
        self._clock, self._provisional = clock, provisional
        self._known: OrderedDict[K, _Figure[V]] = OrderedDict()
        self._reading = threading.Lock()
        renew_in_children(self)

    def renew(self) -> None:
        """Replace the lock in the child of a fork."""
        self._reading = threading.Lock()

    def get(self, key: K, read: Callable[[], V]) -> V:
        """Return what `read` returned lately for a key, or call it."""
        known = self._current(key)
        if known is None:
            with self._reading:  # another page may have read it meanwhile
                known = self._current(key)
                if known is None:
                    began = self._clock()
                    value = read()
                    self._keep(key, value, self._clock() - began)
                    return value
        return known.value

    def intervals(
        self,
        key: Callable[[int], K],
        numbers: Iterable[int],
        read: Callable[[range], Mapping[int, V]],
        ended_seconds: Callable[[int], float],
    ) -> dict[int, V]:
        """Return the figures of intervals by number. Those that are missing are read together.

        Args:
            key: returns the key of the interval with a number.
            numbers: of the intervals.
            read: reads intervals that follow each other.
            ended_seconds: returns how long ago an interval ended.
        """
        found: dict[int, V] = {}
        with self._reading:
            for number in numbers:
                if known := self._current(key(number)):
                    found[number] = known.value
            for run in _runs(number for number in numbers if number not in found):
                began = self._clock()
                values = read(run)
                cost = (self._clock() - began) / len(run)
                for number in run:
                    found[number] = values[number]
                    self._keep(key(number), values[number], cost, ended_seconds(number))
        return found

    def _current(self, key: K) -> _Figure[V] | None:
        known = self._known.get(key)
        if known is None or self._clock() >= known.until:
            return None
        if known.is_cheap:
            self._provisional()
        return known

    def _keep(self, key: K, value: V, cost: float, ended_seconds: float = 0.0) -> None:
        by_time = min(AGE_PER_TIME * ended_seconds, MAX_AGE_SECONDS)
        age = max(MIN_AGE_SECONDS, AGE_PER_COST * cost, by_time)
        self._known[key] = _Figure(value, self._clock() + age, age <= MIN_AGE_SECONDS)
        self._known.move_to_end(key)
        while len(self._known) > MAX_RECENT:
            self._known.popitem(last=False)


def _runs(numbers: Iterable[int]) -> Iterator[range]:
    """Yield the parts of ascending numbers that follow each other."""
    run = range(0)
    for number in numbers:
        if run and number != run.stop:
            yield run
            run = range(0)
        run = range(run.start if run else number, number + 1)
    if run:
        yield run
