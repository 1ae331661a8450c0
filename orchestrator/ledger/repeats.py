"""The newest job of each repeatable request that came without an idempotency key.

It is a hint. Idempotency keys decide whether a request makes a job: see
`orchestrator/operations/repeated_requests.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis import Redis

from orchestrator.ledger import identifiers, keys


@dataclass(frozen=True, slots=True)
class LatestJob:
    """The newest job of a request. `answered_at` is the first answer with its outcome, ms."""

    job_id: str
    answered_at: int | None


class RepeatedRequests:
    """The newest jobs by the digest of their request.

    Args:
        client: returns the client of this thread.
        shards: the number of shards.
        kept_ms: how long a job is remembered after the last change.
    """

    def __init__(
        self, client: Callable[[], AbstractContextManager[Redis]], shards: int, kept_ms: int
    ) -> None:
        self._redis = client
        self._shards = shards
        self._kept_ms = kept_ms

    def latest(self, digest: str) -> LatestJob | None:
        """Return the newest job of a request, or None."""
        with self._redis() as client:
            stored: Any = client.hgetall(self._key(digest))
        job_id = stored.get("job")
        if not job_id:
            return None
        answered_at = stored.get(_answered(job_id))
        return LatestJob(job_id, int(answered_at) if answered_at else None)

    def remember(self, digest: str, job_id: str) -> None:
        """Record the newest job of a request."""
        key = self._key(digest)
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            pipe.delete(key)
            pipe.hset(key, "job", job_id)
            pipe.pexpire(key, self._kept_ms)
            pipe.execute()

    def record_answer(self, digest: str, job_id: str, *, now: int) -> None:
        """Record that a caller was answered the outcome of a job. The first time (ms) is kept."""
        key = self._key(digest)
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            pipe.hsetnx(key, _answered(job_id), now)
            pipe.pexpire(key, self._kept_ms)
            pipe.execute()

    def _key(self, digest: str) -> str:
        return keys.repeat(identifiers.pick_shard(self._shards, digest), digest)


def _answered(job_id: str) -> str:
    return f"answered:{job_id}"
