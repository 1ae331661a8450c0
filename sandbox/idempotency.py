"""Submit idempotency, for the providers that have it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from .tasks import Task

#: how long a key is remembered, in seconds
KEPT_FOR = 24 * 3600.0


class KeyInFlightError(Exception):
    """The first request with this key has not been answered yet."""


class KeyMismatchError(Exception):
    """The key was used before, with another body."""


@dataclass
class Claim:
    """One key in use: the body it came with, and its task once there is one."""

    digest: bytes
    at: float
    task: Task | None = None


class IdempotencyKeys:
    """The keys of one provider."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._claims: dict[str, Claim] = {}
        self._lock = threading.Lock()

    def claim(self, key: str, digest: bytes) -> Task | None:
        """Take a key: the task it led to before, or None when the caller is the first."""
        now = self._clock()
        with self._lock:
            known = self._claims.get(key)
            if known is None or now - known.at > KEPT_FOR:
                self._claims[key] = Claim(digest, now)
                return None
            if known.digest != digest:
                raise KeyMismatchError
            if known.task is None:
                raise KeyInFlightError
            return known.task

    def settle(self, key: str, task: Task | None) -> None:
        """Tie the key to its task, or give the key back when there is none."""
        with self._lock:
            if key not in self._claims:
                return
            if task is None:
                del self._claims[key]
            else:
                self._claims[key].task = task

    def clear(self) -> None:
        """Forget every key."""
        with self._lock:
            self._claims.clear()
