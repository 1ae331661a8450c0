"""Figures that several pages show, and that are read once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

#: The most figures that are kept, of as many keys.
MAX_RECENT = 200

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Figures that are read at most once in a while, however many pages show them.

    Args:
        clock: ms.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._known: dict[K, tuple[int, V]] = {}

    def get(self, key: K, read: Callable[[], V], *, max_age_ms: int) -> V:
        """Return what `read` returned lately for a key, or call it."""
        now = self._clock()
        known = self._known.get(key)
        if known is not None and now - known[0] < max_age_ms:
            return known[1]
        value = read()
        if len(self._known) >= MAX_RECENT:
            self._known.clear()
        self._known[key] = (now, value)
        return value
