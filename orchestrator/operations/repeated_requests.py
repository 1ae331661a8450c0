"""Lets a repeated request join the job of the first one, also without an idempotency key.

Clients repeat a request after a time-out, a lost connection and some errors. OpenAI's clients say
so (`x-stainless-retry-count`), others do not, and none of them sends an idempotency key. So a
request with the same content from the same caller joins its newest job:

- while the job is open,
- as long as nobody was answered its outcome,
- if the client says that it repeats the request,
- shortly after the answer, if the client never says whether it repeats. The answer may be lost.

Otherwise it makes a new job. The job's idempotency key is the digest of the request and the job
before, so two requests at the same time make one job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any

from orchestrator import log
from orchestrator.enqueuing import (
    EnqueueResult,
    IdempotencyGone,
    IdempotencyMismatch,
    create_job,
    key_owner,
)
from orchestrator.jobs.model import Job
from orchestrator.jobs.uploads import ImageFile
from orchestrator.jsonio import dump
from orchestrator.ledger import Idempotency, LedgerUnavailable
from orchestrator.ledger.repeats import LatestJob
from orchestrator.reference_images import Reference
from orchestrator.runtime import Runtime

#: The scope of the idempotency keys of these jobs.
REPEAT_SCOPE = "repeat"
#: A job that ended before is not joined, whatever the client says. Clients give up long before. ms.
MAX_AGE_MS = 3_600_000
#: A client that never says whether it repeats gets the same outcome for this long after an answer.
#: Clients wait 1 to 8 seconds before they repeat. ms.
ANSWER_LOST_MS = 30_000
#: The jobs that are looked at, from the newest known one on. Usually there is one.
MAX_JOBS = 100


class Announcement(Enum):
    """What a client says about a request."""

    FIRST = "it was not sent before"
    REPEATED = "it was sent before"
    UNKNOWN = "nothing"


def request_digest(caller: str, *parts: Any) -> str:
    """Return the digest of a request's content.

    Args:
        caller: the owner of the key.
        parts: everything that decides what the request means. JSON-ready.
    """
    return hashlib.sha256(dump([caller, *parts])).hexdigest()


def join_or_create(
    runtime: Runtime,
    request: Mapping[str, Any],
    *,
    digest: str,
    announced: Announcement,
    tenant: str,
    file: ImageFile | None = None,
    references: Sequence[Reference] = (),
) -> EnqueueResult:
    """Return the job that a request joins, or a new one.

    Args:
        runtime: of this process.
        request: as for `create_job`.
        digest: of the request's content.
        announced: what the client says.
        tenant: the owner of the job.
        file, references: as for `create_job`.

    Raises:
        InvalidRequest, TenantLimitReached, LedgerUnavailable: as for `create_job`.
    """
    create = partial(create_job, scope=REPEAT_SCOPE, file=file, references=references)
    latest = runtime.ledger.repeats.latest(digest)
    before = latest.job_id if latest else ""
    job = runtime.ledger.get(before) if before else None
    for _ in range(MAX_JOBS):
        if job and _joins(job, latest, announced, runtime.clock()):
            log.get().info("job_joined", job=job.id, status=job.status, announced=announced.name)
            return EnqueueResult(job, replayed=True)
        key = f"{digest}:{before}"
        try:
            result = create(runtime, request, tenant=tenant, key=key)
        except IdempotencyGone as gone:
            before, job = gone.job_id, None
            continue
        except IdempotencyMismatch:  # a route changed since, so the same name means another model
            before, job = _known(runtime, key, tenant)
            continue
        if not result.replayed:
            runtime.ledger.repeats.remember(digest, result.job.id)
            return result
        before, job = result.job.id, result.job
    raise LedgerUnavailable("other requests with the same content made too many jobs meanwhile")


def joined_job(runtime: Runtime, digest: str, announced: Announcement) -> Job | None:
    """Return the newest job of a request if the request joins it, whatever it would make now."""
    latest = runtime.ledger.repeats.latest(digest)
    job = runtime.ledger.get(latest.job_id) if latest else None
    if not (job and _joins(job, latest, announced, runtime.clock())):
        return None
    log.get().info("job_joined", job=job.id, status=job.status, announced=announced.name)
    return job


def _joins(job: Job, latest: LatestJob | None, announced: Announcement, now: int) -> bool:
    if not job.status.terminal:
        return True
    if now - (job.settled_at or 0) > MAX_AGE_MS:
        return False
    answered_at = latest.answered_at if latest and latest.job_id == job.id else None
    if answered_at is None or announced is Announcement.REPEATED:
        return True
    return announced is Announcement.UNKNOWN and now - answered_at <= ANSWER_LOST_MS


def _known(runtime: Runtime, key: str, tenant: str) -> tuple[str, Job | None]:
    """Return the job of an idempotency key that was used for another request."""
    idempotency = Idempotency(key_owner(REPEAT_SCOPE, tenant), key)
    known = runtime.ledger.idempotency_keys.find(idempotency)
    job_id = known[0] if known else ""
    return job_id, runtime.ledger.get(job_id) if job_id else None
