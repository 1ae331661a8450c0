"""Retries a job: a new job with the same request, which the provider charges again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from orchestrator import log
from orchestrator.clock import DAY_MS
from orchestrator.enqueuing import EnqueueResult, create_job, job_of_key
from orchestrator.history import HistoryUnavailable, NoHistory
from orchestrator.history.query import key_terms
from orchestrator.jobs.model import ErrorCode, Job, Status
from orchestrator.ledger import keys
from orchestrator.ledger.durations import NOT_REPORTED
from orchestrator.reference_images import NotKept, kept_references
from orchestrator.runtime import Runtime
from orchestrator.step_loop import in_thread

#: The face of retries. Its idempotency key is the id of the first job.
RETRY_SCOPE = "retry"
#: Why a job is not retried by a bulk action again.
RETRIED = "it was retried before"


class NotRetryable(Exception):
    """The job cannot be retried. The message is the reason."""


class MayBePaid(NotRetryable):
    """The job may have been charged already, and the caller did not accept the risk."""


def retry(runtime: Runtime, job: Job, *, actor: str, accept_risk: bool = False) -> EnqueueResult:
    """Create a new job with the request of a failed or cancelled job.

    A job is retried once. Another call returns the same new job.

    Args:
        runtime: of this process.
        job: the failed or cancelled job.
        actor: who asks, for the audit trail.
        accept_risk: retry although the first job may have been charged.

    Raises:
        MayBePaid: the job may have been charged, and the risk is not accepted.
        NotRetryable: the job has no outcome yet, succeeded, or had a file or image that is gone.
        InvalidRequest: the request is not accepted any more.
        HistoryUnavailable: Redis has forgotten a retry, and the history does not answer.
        LedgerUnavailable: Redis is away.
        StorageError: the storage of its images is away.
    """
    result = retry_unaudited(runtime, job, accept_risk=accept_risk)
    log.get().info("job_retried", job=result.job.id, of=job.id, actor=actor)
    if not result.replayed:
        runtime.audit(actor, "retry", job.id, tenant=job.tenant, new_job=result.job.id)
    return result


def retry_unaudited(runtime: Runtime, job: Job, *, accept_risk: bool) -> EnqueueResult:
    """Retry a job for a caller that has its own entry in the audit trail. See `retry`."""
    check_retryable(job)
    if earlier := _recorded_retry(runtime, job):
        return EnqueueResult(earlier, replayed=True)
    if may_be_paid(job) and not accept_risk:
        raise MayBePaid("its request may have been charged, so a retry may pay twice")
    try:
        references = kept_references(runtime, job.tenant, job.request.options.get("images", ()))
    except NotKept:
        raise NotRetryable("its image was not kept; enqueue it again with the image") from None
    result = create_job(
        runtime,
        request_body(job),
        scope=RETRY_SCOPE,
        tenant=job.tenant,
        key=job.id,
        references=references,
        retry_of=job.id,
    )
    runtime.ledger.retried(job.id, result.job.id, now=runtime.clock())
    return result


def check_retryable(job: Job) -> None:
    """Check that a job can be retried by a caller who accepts the risk.

    Raises:
        NotRetryable: the job has no outcome yet, succeeded, or had a file.
    """
    if not job.status.terminal:
        raise NotRetryable(f"it is {job.status} and will reach its outcome")
    if job.status is Status.SUCCEEDED:
        raise NotRetryable("it succeeded; enqueue another job for more images")
    if job.request.upload:
        raise NotRetryable("its file was not kept; enqueue it again with the file")


def with_retries(runtime: Runtime, jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with their retries. The history knows those of jobs that Redis has forgotten.

    Raises:
        HistoryUnavailable: Redis may have forgotten a job, and the history does not answer.
    """
    forgotten_before = runtime.clock() - int(runtime.settings.retention_days * DAY_MS)
    old = [
        job
        for job in jobs
        if job.status in (Status.FAILED, Status.CANCELLED)
        and job.retried_as is None
        and (job.settled_at or 0) <= forgotten_before
    ]
    if not old:
        return list(jobs)
    retries = in_thread(retries_of, runtime, old)
    return [
        replace(job, retried_as=retries[job.id].id) if job.id in retries else job for job in jobs
    ]


def _recorded_retry(runtime: Runtime, job: Job) -> Job | None:
    """Return the retry that a job names, or None. The idempotency key of a retry ends before."""
    [named] = with_retries(runtime, [job])
    if named.retried_as is None:
        return None
    retried = runtime.ledger.get(named.retried_as)
    if retried:
        return retried
    try:
        entry = runtime.history.get(named.retried_as)
    except NoHistory:
        return None
    return entry.job if entry else None


def retries_of(runtime: Runtime, jobs: Sequence[Job]) -> dict[str, Job]:
    """Return the retries of jobs that the history knows, by the id of the old job.

    A retry has the id of the old job as its idempotency key, and the same request.

    Raises:
        HistoryUnavailable: the history does not answer.
    """
    wanted = {keys.searchable(job.id): job for job in jobs}
    terms = [term for job in jobs for term in key_terms(job.id)]
    try:
        ids = runtime.history.with_terms(terms, limit=2 * len(terms)) if terms else []
        entries = runtime.history.entries(ids)
    except NoHistory:
        return {}
    retries = {}
    for _, entry in sorted(entries.items()):  # the newest retry of a job is the last one
        old = wanted.get(entry.stored.fields.get("key", ""))
        if old and (old.tenant, old.request) == (entry.job.tenant, entry.job.request):
            retries[old.id] = entry.job
    return retries


def known_retry(runtime: Runtime, job: Job) -> Job | None:
    """Return the retry of a job, or None if there is none, or the history does not answer.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    if not job.status.terminal or job.status is Status.SUCCEEDED:
        return None
    recent = job_of_key(runtime, RETRY_SCOPE, job.id, job.tenant)
    if recent:
        return recent
    try:
        return retries_of(runtime, [job]).get(job.id)
    except HistoryUnavailable:
        return None


def may_be_paid(job: Job) -> bool:
    """Return whether an attempt of a job without a success may have been charged.

    Everything that a provider accepted may be charged, unless the provider reported the failure.
    """
    code = job.error.code if job.error else None
    if code is ErrorCode.SUBMISSION_UNCONFIRMED or job.resubmitted or job.late_images:
        return True
    accepted = any(attempt.task_id for attempt in job.attempts)
    return accepted and (code in NOT_REPORTED or job.pending_failure is not None)


def request_body(job: Job) -> dict[str, Any]:
    """Return the request as a caller would send it."""
    request = job.request
    body: dict[str, Any] = {"provider": request.provider, "model": request.model}
    body |= {"request": dict(request.native)} if request.native is not None else request.options
    if request.fallback:
        body["fallback"] = [asdict(target) for target in request.fallback]
    if request.provider_options:
        body["provider_options"] = dict(request.provider_options)
    if request.metadata:
        body["metadata"] = dict(request.metadata)
    for name in ("deadline_seconds", "notify_url", "notify_task", "notify_queue", "notify_stream"):
        if getattr(request, name) is not None:
            body[name] = getattr(request, name)
    return {**body, "on_unconfirmed": request.on_unconfirmed}
