"""Idempotency keys of submissions, for the providers that have them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from .tasks import Task

#: How long a key is kept. Seconds.
KEY_TTL_SECONDS = 24 * 3600.0


class KeyInFlightError(Exception):
    """The first request with this key is not answered yet."""


class KeyMismatchError(Exception):
    """The key was used before with another body."""


@dataclass
class KeyClaim:
    """One key in use: the hash of its body, its time and its task."""

    digest: bytes
    claimed_at: float
    #: None until the first request has created a task.
    task: Task | None = None


class IdempotencyKeys:
    """The keys of one provider."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._claims: dict[str, KeyClaim] = {}
        self._lock = threading.Lock()

    def claim(self, key: str, digest: bytes) -> KeyClaim:
        """Claim a key for a request.

        Args:
            key: The idempotency key.
            digest: A hash of the request's body.

        Returns:
            The claim. Its task is that of the earlier request with this key, or None for the first
            request.

        Raises:
            KeyMismatchError: The earlier request had another body.
            KeyInFlightError: The earlier request is not answered yet.
        """
        now = self._clock()
        with self._lock:
            claim = self._claims.get(key)
            if claim is None or now - claim.claimed_at > KEY_TTL_SECONDS:
                self._claims[key] = KeyClaim(digest, now)
                return self._claims[key]
            if claim.digest != digest:
                raise KeyMismatchError
            if claim.task is None:
                raise KeyInFlightError
            return claim

    def settle(self, key: str, claim: KeyClaim, task: Task | None) -> None:
        """Store the task of a claim. Free the key when the request created no task."""
        with self._lock:
            if self._claims.get(key) is not claim:
                # The keys were cleared, so the key can belong to a newer request.
                return
            if task is None:
                del self._claims[key]
            else:
                claim.task = task

    def clear(self) -> None:
        """Forget every key."""
        with self._lock:
            self._claims.clear()
