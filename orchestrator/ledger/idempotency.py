"""Idempotency keys: the job of a key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from redis import Redis

from orchestrator.ledger import identifiers, keys
from orchestrator.ledger.results import Idempotency


class IdempotencyKeys:
    """The keys of all jobs.

    Args:
        client: returns the client of this thread.
        shards: the number of shards.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]], shards: int) -> None:
        self._redis = client
        self._shards = shards

    def find(self, idempotency: Idempotency) -> tuple[str, str] | None:
        """Return the job id and the request's fingerprint of a key, or None."""
        digest = keys.digest(idempotency.scope, idempotency.key)
        shard = identifiers.pick_shard(self._shards, digest)
        with self._redis() as client:
            stored: Any = client.get(keys.idempotency(shard, digest))
        if not stored:
            return None
        job_id, fingerprint = stored.split()
        return job_id, fingerprint
