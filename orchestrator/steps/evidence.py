"""Judges the answer to a poll. A final failure needs evidence.

An answer that points to a failure, but may be wrong for a while, makes the failure pending. It is
final when the provider repeats it for long enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.backoff import NOT_FOUND_POLLS, NOT_FOUND_TOLERANCE_SECONDS
from orchestrator.jobs.model import (
    ErrorCode,
    Image,
    Job,
    JobError,
    Outcome,
    PendingFailure,
    SettledBy,
    Status,
)
from orchestrator.providers.responses import QueryFailed, TaskNotFound, TaskReport

#: Queries without a result before a thin success is a failure.
MIN_QUERIES = 3
#: The least additional time for them. ms.
MIN_EXTRA_SEARCH_MS = 60_000

Reading = TaskReport | TaskNotFound | QueryFailed


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a poll means for its job: its outcome, or the failure that is pending now."""

    outcome: Outcome | None = None
    settled_by: SettledBy = SettledBy.POLL
    pending: PendingFailure | None = None


def judge(
    job: Job, reading: Reading, now: int, *, late: bool, awaits_callback: bool, search_ms: int
) -> Judgement:
    """Judge the answer to a poll.

    Args:
        job: as it was when the poll began.
        reading: the answer.
        now: ms.
        late: the poll began at the deadline, or after it.
        awaits_callback: a callback may still come.
        search_ms: the time of the search for a result after a success without one.
    """
    if isinstance(reading, TaskReport):
        images = reading.images if late else ()
        outcome = reading.outcome or (Outcome.succeeded(images) if images else None)
        unstored = job.pending_failure is not None and job.pending_failure.kind == "unstored"
        if outcome and (outcome.status is Status.SUCCEEDED or not unstored):
            return Judgement(outcome)
    pending = _pending(job, reading, now)
    if pending and pending.kind == "thin_success":
        ended = now >= _final_at(pending, search_ms)
        return Judgement(Outcome.failed(pending.error) if ended else None, pending=pending)
    if pending and pending.kind == "unstored":
        lost = Image("", error=pending.error.message, given_up=True)
        ended = now >= job.deadline_at + search_ms
        return Judgement(Outcome.succeeded((lost,)) if ended else None, pending=pending)
    if late:
        return Judgement(Outcome.failed(_deadline_error(reading)), SettledBy.DEADLINE)
    if pending and not awaits_callback and _is_forgotten(job, pending, now):
        return Judgement(Outcome.failed(pending.error), pending=pending)
    return Judgement(pending=pending)


def search_ends_at(pending: PendingFailure, search_ms: int) -> int:
    """Return the end of the search for the result of a thin success, ms."""
    return pending.since + search_ms


def _final_at(pending: PendingFailure, search_ms: int) -> int:
    """Return when the failure is final, ms. Fewer than MIN_QUERIES polls get more time."""
    ends = search_ends_at(pending, search_ms)
    return ends if pending.polls >= MIN_QUERIES else ends + max(search_ms, MIN_EXTRA_SEARCH_MS)


def summary(reading: Reading) -> str:
    """Return the answer as a short text."""
    if isinstance(reading, TaskReport):
        return f"{reading.state[:100]}{', without a result' if reading.thin_success else ''}"
    if isinstance(reading, TaskNotFound):
        return "not found"
    return f"{reading.error.code}: {reading.error.message}"[:200]


def _pending(job: Job, reading: Reading, now: int) -> PendingFailure | None:
    before = job.pending_failure
    if before and before.kind == "unstored":
        return before
    if isinstance(reading, TaskReport) and reading.thin_success:
        return _repeated(before, PendingFailure(reading.thin_success, now))
    if isinstance(reading, TaskNotFound):
        error = JobError(ErrorCode.NOT_FOUND, "the provider does not know its task any more")
        if before and before.kind == "thin_success":
            return before
        return _repeated(before, PendingFailure(error, now, kind="not_found"))
    return before if isinstance(reading, QueryFailed) else None


def _repeated(before: PendingFailure | None, new: PendingFailure) -> PendingFailure:
    same = before and before.kind == new.kind
    since, polls = (before.since, before.polls) if before and same else (new.since, 0)
    return PendingFailure(new.error, since, polls + 1, new.kind)


def _is_forgotten(job: Job, pending: PendingFailure, now: int) -> bool:
    """Return whether "not found" is final: it came several times, over minutes."""
    tolerance = NOT_FOUND_TOLERANCE_SECONDS * 1000
    long = now - max(pending.since, job.attempt.submitted_at) >= tolerance
    return pending.polls >= NOT_FOUND_POLLS and long


def _deadline_error(reading: Reading) -> JobError:
    code = ErrorCode.DEADLINE_EXCEEDED
    if isinstance(reading, QueryFailed) and reading.error.code is ErrorCode.UNKNOWN:
        code = ErrorCode.UNKNOWN
    answer = summary(reading)
    return JobError(code, f"no outcome by the deadline; the last answer of its provider: {answer}")
