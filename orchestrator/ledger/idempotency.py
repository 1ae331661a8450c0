"""Idempotency keys: the job of a key, and the place of a new job with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis import Redis

from orchestrator import tracing
from orchestrator.jobs.model import Cost
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.tenant import Tenant
from orchestrator.ledger import codec, keys
from orchestrator.ledger.results import Idempotency
from orchestrator.ledger.tenant_limits import fallback_argument, limit_arguments


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
        shard = keys.pick_shard(self._shards, digest)
        with self._redis() as client:
            stored: Any = client.get(keys.idempotency(shard, digest))
        if not stored:
            return None
        job_id, fingerprint = stored.split()
        return job_id, fingerprint


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that the create script may make.

    Attributes:
        id: of the job.
        guard: the key in Redis that makes the call safe to repeat.
        idempotency: the key of the caller, or None.
        shards: the number of shards.
        lifetime_ms: how long an idempotency key is kept.
    """

    id: str
    guard: str
    idempotency: Idempotency | None
    shards: int
    lifetime_ms: int

    @classmethod
    def of(cls, idempotency: Idempotency | None, shards: int, lifetime_ms: int) -> NewJob:
        """Return a new job in the shard of its idempotency key, or in a random one."""
        digest = keys.digest(idempotency.scope, idempotency.key) if idempotency else None
        shard = keys.pick_shard(shards, digest)
        job_id = keys.new_job_id(shard)
        guard = keys.idempotency(shard, digest) if digest else keys.job(job_id)
        return cls(job_id, guard, idempotency, shards, lifetime_ms)

    def arguments(
        self,
        request: JobRequest,
        *,
        now: int,
        deadline_at: int,
        tenant: str,
        limits: Tenant | None,
        reserve: Mapping[str, Cost],
        batch: str = "",
    ) -> list[str | int]:
        """Return the arguments of the create script. They are those of `Ledger.create`.

        The job belongs to the trace of the active span. `batch` is the id of its batch, or empty.
        """
        stored, key = request.stored(), self.idempotency
        lifetime = self.lifetime_ms if key else ""
        args: list[str | int] = [now, codec.dumps(stored), deadline_at]
        args += [codec.fingerprint(stored) if key else "", lifetime]
        args += ["1" if request.notifies else "", request.provider, tenant]
        shard = keys.shard_of(self.id)
        args += limit_arguments(limits, request.provider, reserve, shard, self.shards)
        args += [keys.searchable(key.shown or key.key) if key else ""]
        args += [fallback_argument(request, limits, reserve, self.shards)]
        return [*args, tracing.context(), batch]
