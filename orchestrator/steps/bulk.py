"""Acts on the jobs of bulk actions, a part at a time.

A worker that dies leaves its part to another one, which acts on the same jobs again. So each action
is judged by the ledger, and counts what happened since the bulk action began as its own work: a job
that is cancelled stays so, a retry has the key of its old job, and a notification that was
scheduled since then is not scheduled again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from time import monotonic

from orchestrator import log
from orchestrator.clock import DAY_MS
from orchestrator.enqueuing import IdempotencyGone, TenantLimitReached, cancel_unaudited
from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.model import Step
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger import LedgerUnavailable, Result, UnreadableJob
from orchestrator.ledger.bulk import BulkKind, BulkPart, BulkResult
from orchestrator.operations.bulk import UNREADABLE
from orchestrator.operations.bulk_figures import refusal
from orchestrator.operations.replay import NothingToNotify, notify_unaudited
from orchestrator.operations.rerun import RETRIED, NotRetryable, retry_unaudited
from orchestrator.operations.search import find_job
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import StorageError

#: The longest time for the parts of one sweep. The rest of each second is for jobs. Seconds.
TURN_SECONDS = 0.5
#: After this time, another worker takes the part of one that died. ms.
LEASE_MS = 10_000
#: A part that was begun earlier may have made jobs whose idempotency keys have expired. ms.
MAX_REPEAT_MS = DAY_MS - 3_600_000
#: With more due notifications than this, a bulk action waits, so that others are not delayed.
MAX_DUE_NOTIFICATIONS = 500
#: The wait for due notifications, for a server that is away, and the longest wait for a limit. ms.
NOTIFY_WAIT_MS, AWAY_WAIT_MS, MAX_LIMIT_WAIT_MS = 1000, 5000, 60_000

EXPIRED = "it has expired; jobs are kept for the retention time"
NOT_ACCEPTED = "its request is not accepted any more"
OVERTAKEN = "it is being sent; only a queued job can be cancelled"
INTERRUPTED = "the action was interrupted for a day, and may have retried it"
OUR_ERROR = "an error of ours; the log has it"


class _Wait(Exception):
    """The action cannot go on for `wait_ms`. The message says what it waits for."""

    def __init__(self, reason: str, wait_ms: int) -> None:
        super().__init__(reason)
        self.wait_ms = wait_ms


def act_on_parts(runtime: Runtime, stopping: Callable[[], bool] = lambda: False) -> int:
    """Act on parts of bulk actions for a part of a second. Return the number of parts.

    Args:
        runtime: of this process.
        stopping: says whether the process is stopping.

    Raises:
        LedgerUnavailable: the leases end, and the parts are done again.
    """
    ends, parts = monotonic() + TURN_SECONDS, 0
    while not stopping() and monotonic() < ends and act_on_part(runtime, ends, stopping):
        parts += 1
    return parts


def act_on_part(
    runtime: Runtime, ends: float, stopping: Callable[[], bool] = lambda: False
) -> bool:
    """Act on the next part, and return whether there was one.

    Args:
        runtime: of this process.
        ends: when no further job is begun, by the monotonic clock. Seconds.
        stopping: says whether the process is stopping.
    """
    part = runtime.ledger.bulk.claim(now=runtime.clock(), lease_ms=LEASE_MS)
    if part is None:
        return False
    done, refused, left = 0, Counter[str](), list(part.job_ids)
    waits_for, wait_ms = "", 0
    try:
        _check_backlog(runtime, part.action.kind)
        while left and not stopping():
            reason = _act(runtime, part, left[0])
            left.pop(0)
            if reason is None:
                done += 1
            else:
                refused[reason] += 1
            if monotonic() >= ends:
                break
    except _Wait as wait:
        waits_for, wait_ms = str(wait), wait.wait_ms
    now = runtime.clock()
    result = runtime.ledger.bulk.advance(
        part,
        done=done,
        refused=refused,
        left=left,
        now=now,
        due_at=now + wait_ms,
        waits_for=waits_for,
    )
    if result is BulkResult.FINISHED:
        log.get().info("bulk_finished", bulk=part.action.id, kind=part.action.kind)
    return True


def _check_backlog(runtime: Runtime, kind: BulkKind) -> None:
    if kind is BulkKind.NOTIFY:
        due = runtime.ledger.follow_ups.backlog(Step.NOTIFY, now=runtime.clock()).due
        if due > MAX_DUE_NOTIFICATIONS:
            raise _Wait(f"{due} notifications that are due", NOTIFY_WAIT_MS)


def _act(runtime: Runtime, part: BulkPart, job_id: str) -> str | None:
    """Act on a job. Return why it was refused, or None."""
    try:
        return _ACTS[part.action.kind](runtime, part, job_id)
    except TenantLimitReached as error:
        wait_ms = min(int(error.retry_after * 1000), MAX_LIMIT_WAIT_MS)
        raise _Wait(str(error), wait_ms) from None
    except HistoryUnavailable:
        raise _Wait("the history, which does not answer", AWAY_WAIT_MS) from None
    except StorageError:  # of the images that a retry sends again
        raise _Wait("the archive, which does not give an image", AWAY_WAIT_MS) from None
    except UnreadableJob:  # since the preview
        return UNREADABLE
    except LedgerUnavailable:
        raise
    except Exception:  # one job must not stop the others
        log.get().exception("bulk_job_failed", bulk=part.action.id, job=job_id)
        return OUR_ERROR


def _cancel(runtime: Runtime, part: BulkPart, job_id: str) -> str | None:
    result = cancel_unaudited(runtime, job_id)
    if result is Result.CANCELLED:
        return None
    job = runtime.ledger.get(job_id)
    if job is None:
        return EXPIRED
    if result is Result.DUPLICATE and _is_since(part, job.settled_at):
        return None
    return refusal(BulkKind.CANCEL, job) or OVERTAKEN


def _retry(runtime: Runtime, part: BulkPart, job_id: str) -> str | None:
    job = find_job(runtime, job_id)
    if job is None:
        return EXPIRED
    if runtime.clock() - part.since > MAX_REPEAT_MS:
        return INTERRUPTED
    try:
        retried = retry_unaudited(runtime, job, accept_risk=part.action.accept_risk)
    except NotRetryable as error:
        return str(error)
    except InvalidRequest:  # its text may have a part of the prompt
        return NOT_ACCEPTED
    except IdempotencyGone:
        return RETRIED
    is_earlier = retried.replayed and not _is_since(part, retried.job.created_at)
    return RETRIED if is_earlier else None


def _notify(runtime: Runtime, part: BulkPart, job_id: str) -> str | None:
    job = runtime.ledger.get(job_id)
    if job is None:
        return EXPIRED
    try:
        notify_unaudited(runtime, job, since=part.action.started_at)
    except NothingToNotify as error:
        return str(error)
    return None


def _is_since(part: BulkPart, time: int | None) -> bool:
    """Return whether a time (ms) is not before the start of the action."""
    return (time or 0) >= (part.action.started_at or 0)


_ACTS: Mapping[BulkKind, Callable[[Runtime, BulkPart, str], str | None]] = {
    BulkKind.CANCEL: _cancel,
    BulkKind.RETRY: _retry,
    BulkKind.NOTIFY: _notify,
}
