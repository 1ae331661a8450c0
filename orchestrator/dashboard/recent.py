"""Figures that several pages show, and that are read once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

#: Figures are read again after this time. Seconds.
MIN_AGE_SECONDS = 1.0
#: A figure that takes long to read is used for this many times as long. So reading it takes at most
#: two percent of the time.
AGE_PER_COST = 50
#: The most figures that are kept, of as many keys.
MAX_RECENT = 200

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Figure(Generic[V]):
    value: V
    until: float


class Recent(Generic[K, V]):
    """Keeps the figures of each key for a moment.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._known: dict[K, _Figure[V]] = {}

    def get(self, key: K, read: Callable[[], V]) -> V:
        """Return what `read` returned lately for a key, or call it."""
        began = self._clock()
        known = self._known.get(key)
        if known is not None and began < known.until:
            return known.value
        value = read()
        ended = self._clock()
        age = max(MIN_AGE_SECONDS, AGE_PER_COST * (ended - began))
        if len(self._known) >= MAX_RECENT:
            self._known.clear()
        self._known[key] = _Figure(value, ended + age)
        return value
