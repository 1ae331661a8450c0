"""Creations: the transitions that make new jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator import tracing
from orchestrator.jobs.model import Cost
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.tenant import Tenant
from orchestrator.ledger import codec, identifiers, keys
from orchestrator.ledger.results import Created, Idempotency
from orchestrator.ledger.script import load
from orchestrator.ledger.tenant_limits import fallback_argument, limit_arguments
from orchestrator.ledger.transition import Transition


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that the create script shall make.

    Attributes:
        request: a checked request.
        deadline_at: ms.
        tenant, limits: the owner and its limits. None is no limit.
        reserve: the expected cost at each provider of the request where the owner has a daily
            budget. It counts against the budget of the provider where the job is.
        idempotency: the key that makes the call safe to repeat.
        batch: the id of its batch, or empty.
        retry_of: the id of the job that it retries, or empty.
    """

    request: JobRequest
    deadline_at: int
    tenant: str
    limits: Tenant | None
    reserve: Mapping[str, Cost]
    idempotency: Idempotency | None = None
    batch: str = ""
    retry_of: str = ""


class Creations:
    """Makes the transitions that create jobs.

    Args:
        shards: the number of shards.
        lifetime_ms: how long an idempotency key is kept.
        limits: the configured limits of providers in each shard, as the scripts read them.
    """

    def __init__(self, shards: int, lifetime_ms: int, limits: Sequence[str]) -> None:
        self._shards = shards
        self._lifetime_ms = lifetime_ms
        self._limits = limits
        self._script = load("create")

    def of(self, job: NewJob, *, now: int) -> tuple[str, Transition[Created]]:
        """Return the id of a new job, and the transition that creates it.

        The job is in the shard of its idempotency key, or in a random one. It belongs to the trace
        of the active span.
        """
        key = job.idempotency
        digest = keys.digest(key.scope, key.key) if key else None
        shard = identifiers.pick_shard(self._shards, digest)
        job_id = identifiers.new_job_id(shard, now)
        guard = keys.idempotency(shard, digest) if digest else keys.job(job_id)
        args = self._arguments(job, shard, now)
        return job_id, Transition(
            self._script,
            [*keys.of(job_id), guard],
            args,
            lambda answer: Created.from_answer(answer, job_id),
        )

    def _arguments(self, job: NewJob, shard: int, now: int) -> list[str | int]:
        """Return the arguments of the script."""
        request, key, stored = job.request, job.idempotency, job.request.stored()
        return [
            *(now, codec.dumps(stored), job.deadline_at),
            *((codec.fingerprint(stored), self._lifetime_ms) if key else ("", "")),
            *("waiting" if request.notifies else "", request.provider, job.tenant),
            *limit_arguments(job.limits, request.provider, job.reserve, shard, self._shards),
            keys.searchable(key.shown or key.key) if key else "",
            fallback_argument(request, job.limits, job.reserve, self._shards),
            *(tracing.context(), job.batch, self._limits[shard], job.retry_of),
        ]
