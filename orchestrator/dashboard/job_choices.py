"""What can be done about a job now, and what it may cost; the routes that do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Response, request

from orchestrator.dashboard import views
from orchestrator.enqueuing import (
    EnqueueResult,
    IdempotencyGone,
    IdempotencyMismatch,
    TenantLimitReached,
    cancel_job,
)
from orchestrator.jobs.model import FollowUpStatus, Job, Status
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.operations.cost import expected_cost
from orchestrator.operations.poll_now import AskedRecently, NothingToPoll, poll_now
from orchestrator.operations.rearchive import NothingToArchive, archive_again
from orchestrator.operations.replay import NothingToNotify, check_notifiable, notify_again
from orchestrator.operations.rerun import (
    MayBePaid,
    NotRetryable,
    check_retryable,
    may_be_paid,
    retry,
)
from orchestrator.operations.search import find_job
from orchestrator.runtime import Runtime

#: The pages to which an action may return.
_PAGES = ("unconfirmed", "at_risk")


@dataclass(frozen=True, slots=True)
class Price:
    """What a retry may cost. `amount` is None if no price is configured."""

    amount: float | None
    unit: str | None
    provider: str
    twice: bool


@dataclass(frozen=True, slots=True)
class Choices:
    """The actions that make sense for a job. `retry` has the price, or is None."""

    cancel: bool
    retry: Price | None
    poll: bool
    notify: bool
    archive: bool

    @property
    def any(self) -> bool:
        """Whether there is an action."""
        return bool(self.cancel or self.retry or self.poll or self.notify or self.archive)


def choices(runtime: Runtime, job: Job, retried: Job | None) -> Choices:
    """Return what can be done about a job. `retried` is its retry, if there is one.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    known = runtime.ledger.get(job.id) is not None
    return Choices(
        cancel=known and job.status is Status.QUEUED,
        retry=None if retried else _price(runtime, job),
        poll=known and job.status is Status.RUNNING,
        notify=known and _holds(lambda: check_notifiable(job), NothingToNotify),
        archive=known and can_archive(job),
    )


def can_archive(job: Job) -> bool:
    """Return whether an archive waits for its next try or was given up, and a link may work."""
    archive = job.archive
    failed = archive is not None and (
        archive.status is FollowUpStatus.DEAD
        or (archive.status is FollowUpStatus.PENDING and archive.tries > 0)
    )
    return failed and any(image.copy is None and image.source_url for image in job.all_images)


def _price(runtime: Runtime, job: Job) -> Price | None:
    """Return what a retry of a job may cost; None: it cannot be retried."""
    if not _holds(lambda: check_retryable(job), NotRetryable):
        return None
    first = job.request.provider  # a new job begins there
    cost = expected_cost(runtime, job, first)
    amount, unit = (cost.amount, cost.unit) if cost else (None, None)
    return Price(amount, unit, first, may_be_paid(job))


def _holds(check: Callable[[], None], refusal: type[Exception]) -> bool:
    try:
        check()
    except refusal:
        return False
    return True


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes. Each answers with the page from which it was called, and a sentence."""

    def add(name: str, action: Callable[[Runtime, Job], Response]) -> None:
        def act(job_id: str) -> Response:
            job = find_job(runtime, job_id)
            if job is None or not views.caller().sees(job.tenant):
                return views.render("job_missing", 404, job_id=job_id)
            return action(runtime, job)

        pages.add_url_rule(f"/jobs/<job_id>/{name}", f"{name}_job", act, methods=["POST"])

    for action in (_cancel, _retry, _poll, _notify, _archive):
        add(action.__name__[1:], action)


def _cancel(runtime: Runtime, job: Job) -> Response:
    if cancel_job(runtime, job.id, actor=views.caller().name):
        return _back(runtime, job, "The job is cancelled. Nothing was sent to its provider.")
    now = runtime.ledger.get(job.id) or job
    return _back(
        runtime, job, f"It is not cancelled: it is {now.status}, and only a queued job can be."
    )


def _retry(runtime: Runtime, job: Job) -> Response:
    try:
        result = retry(
            runtime, job, actor=views.caller().name, accept_risk=bool(request.form.get("risk"))
        )
    except MayBePaid as error:
        text = f"It is not retried: {error}. Tick the box to accept that."
    except (NotRetryable, IdempotencyMismatch) as error:
        text = f"It is not retried: {error}."
    except IdempotencyGone:
        text = "It is not retried: it was retried before, and that job has expired."
    except TenantLimitReached as error:
        text = f"It is not retried: {error}"
    except InvalidRequest as error:
        reasons = "; ".join(map(str, error.violations))
        text = f"It is not retried, because the request is not accepted any more: {reasons}."
    else:
        return _retried(runtime, job, result)
    return _back(runtime, job, text)


def _retried(runtime: Runtime, job: Job, result: EnqueueResult) -> Response:
    if result.replayed:
        text = f"The job was retried before. This is the job that retries {job.id}."
    else:
        text = f"This new job retries {job.id}."
    return views.done(runtime, text, "job", job_id=result.job.id)


def _poll(runtime: Runtime, job: Job) -> Response:
    try:
        poll_now(runtime, job, actor=views.caller().name)
    except (NothingToPoll, AskedRecently) as error:
        return _back(runtime, job, f"The provider is not asked: {error}.")
    return _back(runtime, job, "A worker asks the provider now. The answer shows here.")


def _notify(runtime: Runtime, job: Job) -> Response:
    try:
        notify_again(runtime, job, actor=views.caller().name)
    except NothingToNotify as error:
        return _back(runtime, job, f"Nobody is notified: {error}.")
    return _back(runtime, job, "A worker notifies the caller again now.")


def _archive(runtime: Runtime, job: Job) -> Response:
    try:
        archive_again(runtime, job, actor=views.caller().name)
    except NothingToArchive as error:
        return _back(runtime, job, f"Nothing is archived: {error}.")
    return _back(runtime, job, "A worker archives the images again now.")


def _back(runtime: Runtime, job: Job, notice: str) -> Response:
    """Answer with the page from which the action was called."""
    page = request.form.get("page", "")
    if page in _PAGES:
        tenant = request.form.get("tenant") or None
        return views.done(runtime, f"Job {job.id}: {notice}", page, tenant=tenant)
    return views.done(runtime, notice, "job", job_id=job.id)
