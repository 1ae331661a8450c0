"""Sums of counts and timings of all processes, for `/metrics`. They decide nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from redis import Redis

from orchestrator.ledger import keys


class TimingSums:
    """The sums of all processes. They only grow.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client

    def add(self, sums: Mapping[str, float]) -> None:
        """Add to sums, in one round trip. All are added or none."""
        with self._redis() as client, client.pipeline(transaction=True) as pipe:
            for name, amount in sums.items():
                pipe.hincrbyfloat(keys.TIMINGS, name, amount)
            pipe.execute()

    def read(self) -> dict[str, float]:
        """Return all sums."""
        with self._redis() as client:
            stored: Any = client.hgetall(keys.TIMINGS)
        return {name: float(amount) for name, amount in stored.items()}
