"""Reads across all shards: lists, counts, overdue jobs, and unconfirmed attempts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from orchestrator.jobs.model import ErrorCode, JobError, Outcome, SettledBy
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Lease, Ledger, Result, identifiers, keys
from orchestrator.ledger.agenda import AgendaCounts
from orchestrator.ledger.overview import Unconfirmed
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, NEXT_DUE, NOW, SUCCESS

OTHER = JobRequest("evolink", "nano-banana-2-lite", options={"prompt": "A red cube"})


def expire(redis: Redis, *job_ids: str) -> None:
    """Delete jobs as Redis does at the end of their retention time."""
    for job_id in job_ids:
        redis.delete(keys.job(job_id), keys.events(job_id))


def failed(ledger: Ledger) -> str:
    """Create a job that failed at its submission. Return its id."""
    lease = kit.submitting(ledger)
    ledger.settle(lease, FAILURE, SettledBy.SUBMIT, now=NOW)
    return lease.job.id


# Lists -------------------------------------------------------------------------------------


def test_the_newest_jobs_of_all_shards_are_listed_in_order_and_once(sharded: Ledger) -> None:
    ids = sorted((kit.create(sharded) for _ in range(40)), reverse=True)
    assert len({identifiers.shard_of(job_id) for job_id in ids}) > 1

    assert sharded.overview.newest(100, below=identifiers.LAST_ID) == ids
    assert sharded.overview.newest(7, below=ids[3]) == ids[4:11]
    assert sharded.overview.newest(5, below=ids[-1]) == []


# Counts ------------------------------------------------------------------------------------


def test_counts_of_open_jobs_are_exact_and_counts_of_terminal_jobs_only_grow(
    sharded: Ledger, redis: Redis
) -> None:
    ended = [failed(sharded) for _ in range(6)]
    for _ in range(8):
        kit.running(sharded)
    kit.create(sharded)
    expire(redis, *ended[:4])

    counts = {name: number for name, number in sharded.overview.counts().items() if number}

    assert counts == {"failed": 6, "running": 8, "queued": 1}


def test_contradictions_are_counted(ledger: Ledger) -> None:
    job_id = kit.running(ledger)
    ledger.settle_attempt(job_id, 1, "task-x", SUCCESS, now=NOW)
    for _ in range(2):
        ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)
    ledger.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)
    older = kit.resubmitting(ledger).job.id
    ledger.settle_attempt(older, 1, "task-9", FAILURE, now=NOW)

    counts = ledger.overview.counts()

    assert {name: counts[name] for name in kit.RECORDED} == dict.fromkeys(kit.RECORDED, 1)


def test_an_event_over_the_limit_of_a_timeline_is_counted(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    redis.rpush(keys.events(job_id), *[f"{NOW} polled {{}}"] * 200)

    ledger.settle_attempt(job_id, 1, "task-x", SUCCESS, now=NOW)

    assert ledger.overview.counts()["mismatch"] == 1


def test_an_empty_ledger_counts_nothing(sharded: Ledger) -> None:
    assert sharded.overview.counts() == {}
    assert sharded.overview.size() == 0


def test_the_size_is_the_number_of_listed_jobs(sharded: Ledger) -> None:
    for _ in range(9):
        kit.create(sharded)

    assert sharded.overview.size() == 9


# The agenda --------------------------------------------------------------------------------


def test_the_agenda_has_the_open_jobs_the_due_jobs_and_the_longest_delay(sharded: Ledger) -> None:
    for late in range(20):
        kit.create(sharded, now=NOW + late)
    kit.running(sharded)
    failed(sharded)

    assert sharded.agenda.counts(now=NOW - 1) == AgendaCounts(open=21, due=0, lag=0)
    assert sharded.agenda.counts(now=NOW) == AgendaCounts(open=21, due=1, lag=0)
    assert sharded.agenda.counts(now=NOW + 9) == AgendaCounts(open=21, due=10, lag=9)
    assert sharded.agenda.counts(now=NEXT_DUE) == AgendaCounts(open=21, due=21, lag=NEXT_DUE - NOW)


def test_an_empty_agenda_has_no_delay(sharded: Ledger) -> None:
    assert sharded.agenda.counts(now=NOW) == AgendaCounts(0, 0, 0)


# Unconfirmed attempts ----------------------------------------------------------------------


def at_risk(ledger: Ledger) -> list[Unconfirmed]:
    number, attempts = ledger.overview.unconfirmed(100)
    assert number == len(attempts)
    return attempts


def unconfirmed(ledger: Ledger) -> Lease:
    """Create a job with an unconfirmed attempt, and claim it again."""
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease, due_at=NOW + 1)
    return kit.claim(ledger, lease.job.id, now=NOW + 1)


def test_an_attempt_without_an_answer_is_listed(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)
    assert at_risk(ledger) == []

    kit.unconfirmed(ledger, lease)

    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]


def test_an_attempt_of_a_dead_worker_is_listed(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)

    kit.claim(ledger, lease.job.id, now=lease.ends_at)

    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, lease.ends_at)]


def test_an_attempt_that_stays_unconfirmed_keeps_its_first_time(ledger: Ledger) -> None:
    lease = unconfirmed(ledger)

    result = ledger.unconfirmed(lease, now=NEXT_DUE, due_at=NEXT_DUE, tries=1, reason="again")

    assert result is Result.UNCONFIRMED
    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]


#: The transitions that bind a provider task to an attempt.
EVIDENCE: dict[str, Callable[[Ledger, str], object]] = {
    "acceptance": lambda x, i: x.accepted(i, 1, "task-1", now=NOW, due_at=NEXT_DUE),
    "callback": lambda x, i: x.settle_attempt(i, 1, "task-1", SUCCESS, now=NOW),
    "failure": lambda x, i: x.settle_attempt(i, 1, "task-1", FAILURE, now=NOW),
    "observed": lambda x, i: x.observe(i, 1, "task-1", now=NOW, due_at=None, fallback=NEXT_DUE),
}


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_an_attempt_with_a_known_task_is_removed(ledger: Ledger, evidence: str) -> None:
    lease, other = unconfirmed(ledger), unconfirmed(ledger)

    EVIDENCE[evidence](ledger, lease.job.id)

    assert [attempt.job_id for attempt in at_risk(ledger)] == [other.job.id]


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_an_attempt_of_a_failed_job_is_listed_until_its_task_is_known(
    ledger: Ledger, evidence: str
) -> None:
    lease = unconfirmed(ledger)
    failure = Outcome.failed(JobError(ErrorCode.SUBMISSION_UNCONFIRMED, "no answer"))
    ledger.settle(lease, failure, SettledBy.DEADLINE, now=DEADLINE)
    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]

    EVIDENCE[evidence](ledger, lease.job.id)

    assert at_risk(ledger) == []


def test_an_attempt_is_listed_after_the_success_of_its_resubmission(ledger: Ledger) -> None:
    lease = unconfirmed(ledger)
    job_id = lease.job.id
    kit.resubmit(ledger, lease)
    kit.claim(ledger, job_id)

    ledger.settle_attempt(job_id, 2, "task-2", SUCCESS, now=NOW)

    assert at_risk(ledger) == [Unconfirmed(job_id, 1, NOW)]
    ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)
    assert at_risk(ledger) == []


def test_an_acceptance_of_an_attempt_that_was_never_sent_removes_no_other(
    ledger: Ledger,
) -> None:
    lease = unconfirmed(ledger)

    assert ledger.accepted(lease.job.id, 2, "task-2", now=NOW, due_at=NEXT_DUE) is Result.MISMATCH

    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]


def test_the_newest_attempts_of_all_shards_come_first_and_all_are_counted(sharded: Ledger) -> None:
    leases = [kit.submitting(sharded) for _ in range(12)]
    for number, lease in enumerate(leases):
        sharded.unconfirmed(lease, now=NOW + number, due_at=NEXT_DUE, tries=1, reason="")

    number, newest = sharded.overview.unconfirmed(5)

    assert number == 12
    assert [entry.since - NOW for entry in newest] == [11, 10, 9, 8, 7]
    assert [entry.job_id for entry in newest] == [lease.job.id for lease in leases[:6:-1]]


# Reading -----------------------------------------------------------------------------------


def test_jobs_with_a_status_are_told_from_others_in_the_same_order(sharded: Ledger) -> None:
    queued = [kit.create(sharded) for _ in range(4)]
    other = failed(sharded)
    ids = [queued[2], other, queued[0], identifiers.new_job_id(0, NOW), queued[1]]

    assert sharded.overview.with_status(ids, "queued") == [queued[2], queued[0], queued[1]]
    assert sharded.overview.with_status(ids, "failed") == [other]
    assert sharded.overview.with_status([], "failed") == []


def test_reading_changes_nothing(ledger: Ledger, redis: Redis) -> None:
    unconfirmed(ledger)
    before = kit.state(redis)

    ledger.overview.newest(5, below=identifiers.LAST_ID)
    ledger.overview.counts()
    ledger.agenda.counts(now=NOW)
    ledger.overview.unconfirmed(5)
    list(ledger.overview.snapshots(0))
    with ledger.overview.watch_totals(0) as totals:
        totals()

    assert kit.state(redis) == before
