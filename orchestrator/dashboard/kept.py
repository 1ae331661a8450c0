"""Values that several pages show, kept for some seconds, so that many open pages cost little."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

Value = TypeVar("Value")

#: The most values that are kept. The oldest one is forgotten first.
MAX_VALUES = 200


class Kept(Generic[Value]):
    """Keeps values for a time. Threads may make a value twice, which is harmless.

    Args:
        seconds: a value is made again after this time.
        clock: seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._values: dict[Hashable, tuple[float, Value]] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key. `make` makes it if it is missing or too old."""
        now, known = self._clock(), self._values.get(key)
        if known and now - known[0] < self._seconds:
            return known[1]
        value = make()
        self._values.pop(key, None)
        self._values[key] = (now, value)
        for old in list(self._values)[:-MAX_VALUES]:
            self._values.pop(old, None)
        return value
