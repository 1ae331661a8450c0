"""Trying a job again: a new job from the same request, which the provider charges again."""

from __future__ import annotations

from typing import Any

from orchestrator import log
from orchestrator.enqueue import EnqueueResult, create_job
from orchestrator.jobs.model import ErrorCode, Job, Status
from orchestrator.runtime import Runtime


class NotRetryable(Exception):
    """The job cannot be tried again as it stands; the message says why."""


class MayBePaid(NotRetryable):
    """The job may have been charged already, and nobody accepted the risk of paying twice."""


def retry(runtime: Runtime, job: Job, *, caller: str, accept_risk: bool = False) -> EnqueueResult:
    """A new job from the request of one that failed or was cancelled.

    A job is retried once, whoever asks: another call gives the same new job (for 24 hours).

    Args:
        runtime: this process' parts.
        job: the one to try again.
        caller: who asks, for the log.
        accept_risk: go on although the first job may have been charged.

    Raises:
        MayBePaid: it may have been charged, and the risk is not accepted.
        NotRetryable: it is not over, it succeeded, or its file is gone.
        InvalidRequest: the request is no longer accepted: a provider is off, say.
        LedgerUnavailable: Redis is away.
    """
    if not job.status.terminal:
        raise NotRetryable(f"it is {job.status}: it still reaches its outcome")
    if job.status is Status.SUCCEEDED:
        raise NotRetryable("it succeeded: for more images, enqueue another job")
    if job.request.upload:
        raise NotRetryable("its file was not kept: enqueue it again, with the file")
    if may_be_paid(job) and not accept_risk:
        raise MayBePaid(
            "its request may have reached the provider and been charged: a retry may pay twice"
        )
    placed = create_job(runtime, _asked(job), scope="retry", key=job.id)
    log.get().info("job_retried", job=placed.job.id, of=job.id, caller=caller)
    return placed


def may_be_paid(job: Job) -> bool:
    """Whether an attempt may have been charged without an outcome to show for it."""
    code = job.error.code if job.error else None
    unseen = code is ErrorCode.DEADLINE_EXCEEDED and any(a.task_id for a in job.attempts)
    return code is ErrorCode.SUBMISSION_UNCONFIRMED or unseen or job.resubmitted


def _asked(job: Job) -> dict[str, Any]:
    """The request as a caller would send it."""
    request = job.request
    asked: dict[str, Any] = {"provider": request.provider, "model": request.model}
    asked |= {"request": dict(request.native)} if request.native is not None else request.options
    if request.provider_options:
        asked["provider_options"] = dict(request.provider_options)
    if request.metadata:
        asked["metadata"] = dict(request.metadata)
    for name in ("deadline_seconds", "notify_url", "notify_task", "notify_queue", "notify_stream"):
        if getattr(request, name) is not None:
            asked[name] = getattr(request, name)
    return {**asked, "on_unconfirmed": request.on_unconfirmed}
