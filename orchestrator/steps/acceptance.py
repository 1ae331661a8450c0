"""Records that a provider accepted an attempt, also when Redis is away at that moment.

The answer to a submission is the only proof of what was paid for. So it is recorded again until
Redis has it: from memory while the process lives, and from the spool after a restart.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator import log
from orchestrator.backoff import first_poll_delay
from orchestrator.callbacks.spool import Entry, Spool, SpoolError
from orchestrator.jobs.model import Job, Outcome, PendingFailure, SettledBy
from orchestrator.ledger import FirstPoll, LearnedWait, LedgerUnavailable, Result
from orchestrator.net.http_types import Reply
from orchestrator.operations.cost import computed_cost
from orchestrator.operations.inline_images import store_inline_images, storing_ms, unstored
from orchestrator.providers.responses import Accepted
from orchestrator.runtime import Runtime
from orchestrator.step_loop import in_thread
from orchestrator.steps import adapters
from orchestrator.storage.storage import StorageError

#: Results that do not end the need for the job's file: another attempt may send it.
_NEEDS_FILE = frozenset({Result.SUPERSEDED, Result.MISMATCH})


def record(runtime: Runtime, job: Job, number: int, reply: Reply, accepted: Accepted) -> None:
    """Record an acceptance. While Redis is away, it is held and recorded later.

    Args:
        runtime: of this process.
        job: the job, with its request.
        number: of the attempt.
        reply: the provider's answer, which the spool keeps.
        accepted: its meaning.
    """
    try:
        _record(runtime, job, number, accepted)
    except LedgerUnavailable:
        _hold(runtime, job, number, reply, accepted)


def record_spooled(runtime: Runtime, entry: Entry) -> None:
    """Record a spooled answer to a submission.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    job, enabled = runtime.ledger.get(entry.job_id), runtime.enabled_provider(entry.provider)
    if job is None or enabled is None or entry.answer_status is None:
        return
    reply = Reply(entry.answer_status, {}, entry.body)
    reading = adapters.read_submit(enabled[0], job, reply)
    if isinstance(reading, Accepted):
        _record(runtime, job, entry.attempt, reading)


def _hold(runtime: Runtime, job: Job, number: int, reply: Reply, accepted: Accepted) -> None:
    folder, provider = runtime.settings.spool_dir, job.provider_of(number)
    spool = Spool(folder) if folder else None
    name = None
    if spool:
        entry = Entry(provider, job.id, number, runtime.clock(), reply.body, reply.status)
        try:
            name = in_thread(spool.keep, entry)
        except (SpoolError, RuntimeError) as error:  # RuntimeError: there are too many threads
            log.get().error("acceptance_unspooled", job=job.id, reason=str(error))
    log.get().warning(
        "acceptance_held",
        job=job.id,
        provider=provider,
        attempt=number,
        task_id=accepted.task_id,
        spooled=name is not None,
    )

    def again() -> None:
        _record(runtime, job, number, accepted)
        if spool and name:
            spool.remove(name)

    runtime.retry_queue.add(f"{job.id}.{number}", again, until_not=LedgerUnavailable)


def _record(runtime: Runtime, job: Job, number: int, accepted: Accepted) -> None:
    outcome = accepted.outcome
    if outcome is None:
        result = _running(runtime, job, number, accepted)
    elif storing_ms(outcome):
        result = _stored(runtime, job, number, accepted, outcome)
    else:
        result = _done(runtime, job, number, accepted, outcome)
    if job.request.upload and result not in _NEEDS_FILE:
        in_thread(runtime.ledger.uploads.drop, job.id)


def _stored(
    runtime: Runtime, job: Job, number: int, accepted: Accepted, outcome: Outcome
) -> Result:
    """Store the images inside the answer, and settle the job.

    The acceptance is recorded first. Storing may take longer than the lease of the submission, and
    an attempt without a task would be sent again or given up. A poll gets the images again if this
    fails, or if the process ends meanwhile.
    """
    result = _running(runtime, job, number, accepted)
    try:
        outcome = store_inline_images(runtime, job.id, outcome)
    except StorageError as error:
        log.get().warning("inline_images_unstored", job=job.id, reason=str(error))
        return result
    return _done(runtime, job, number, accepted, outcome)


def _done(runtime: Runtime, job: Job, number: int, accepted: Accepted, outcome: Outcome) -> Result:
    """Settle the job: the answer holds the outcome."""
    enabled = runtime.enabled_provider(job.provider_of(number))
    cost = outcome.cost or accepted.cost or (enabled and computed_cost(*enabled, job, outcome))
    settlement = runtime.ledger.settle_attempt(
        job.id,
        number,
        accepted.task_id,
        replace(outcome, cost=cost),
        now=runtime.clock(),
        by=SettledBy.SUBMIT,
    )
    result = runtime.nudge_due(job.id, settlement)
    _log("attempt_done", job, number, accepted, status=outcome.status, result=result)
    return result


def _running(runtime: Runtime, job: Job, number: int, accepted: Accepted) -> Result:
    now, enabled = runtime.clock(), runtime.enabled_provider(job.provider_of(number))
    wait, cost, learned, pending = 0.0, accepted.cost, FirstPoll(), None
    if accepted.thin_success:
        pending = PendingFailure(accepted.thin_success, now)
    elif accepted.outcome:
        pending = unstored("the images in the answer to the submission were not stored", now)
        wait = storing_ms(accepted.outcome) / 1000
    elif enabled:
        calls_back = runtime.calls_back(enabled[0])
        grace = runtime.settings.callback_grace_seconds if calls_back else None
        wait = first_poll_delay(
            estimate=accepted.estimate, grace=grace, poll=enabled[1].poll_seconds
        )
        soonest = wait if calls_back else enabled[1].poll_seconds
        learned = FirstPoll(
            LearnedWait.LATE if calls_back else LearnedWait.EARLY, now + int(soonest * 1000)
        )
    if enabled and not accepted.thin_success:
        cost = cost or computed_cost(*enabled, job)
    due_at = now + int(wait * 1000)
    result = runtime.ledger.accepted(
        job.id,
        number,
        accepted.task_id,
        now=now,
        due_at=due_at if accepted.outcome else min(due_at, max(job.deadline_at, now)),
        first_poll=learned,
        cost=cost,
        pending_failure=pending,
    )
    _log("attempt_accepted", job, number, accepted, result=result)
    return result


def _log(event: str, job: Job, number: int, accepted: Accepted, **details: object) -> None:
    log.get().info(
        event,
        job=job.id,
        provider=job.provider_of(number),
        attempt=number,
        task_id=accepted.task_id,
        **details,
    )
