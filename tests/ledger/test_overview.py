"""Reads across all shards: lists, counts, overdue jobs, and unconfirmed attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from orchestrator.jobs.model import ErrorCode, JobError, Outcome, SettledBy, Status
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Lease, Ledger, Result, keys, overview
from orchestrator.ledger.overview import AgendaCounts, Page, Unconfirmed
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, NEXT_DUE, NOW, SUCCESS

OTHER = JobRequest("evolink", "nano-banana-2-lite", options={"prompt": "A red cube"})


@pytest.fixture
def sharded(redis: Redis) -> Ledger:
    return Ledger(lambda: redis, shards=5)


def pages(ledger: Ledger, limit: int, **filters: str) -> Iterator[Page]:
    cursor = None
    while True:
        page = ledger.overview.page(limit, cursor=cursor, **filters)  # type: ignore[arg-type]
        yield page
        cursor = page.cursor
        if cursor is None:
            return


def listed(ledger: Ledger, limit: int, **filters: str) -> list[str]:
    """Return the ids of all pages, in order."""
    return [job.id for page in pages(ledger, limit, **filters) for job in page.jobs]


def expire(redis: Redis, *job_ids: str) -> None:
    """Delete jobs as Redis does at the end of their retention time."""
    for job_id in job_ids:
        redis.delete(keys.job(job_id), keys.events(job_id))


def failed(ledger: Ledger) -> str:
    """Create a job that failed at its submission. Return its id."""
    lease = kit.submitting(ledger)
    ledger.settle(lease, FAILURE, SettledBy.SUBMIT, now=NOW)
    return lease.job.id


# Pages -------------------------------------------------------------------------------------


def test_a_page_lists_complete_jobs_newest_first(ledger: Ledger) -> None:
    ids = [kit.create(ledger), kit.running(ledger), failed(ledger)]

    page = ledger.overview.page(10)

    newest_first = sorted(ids, reverse=True)
    assert page == Page([kit.job(ledger, job_id) for job_id in newest_first], None)


def test_an_empty_ledger_has_one_empty_page(sharded: Ledger) -> None:
    assert sharded.overview.page(10) == Page([], None)


@pytest.mark.parametrize("limit", [1, 2, 7, 40, 100])
def test_pages_list_the_jobs_of_all_shards_in_order_and_once(sharded: Ledger, limit: int) -> None:
    ids = [kit.create(sharded) for _ in range(40)]
    assert len({keys.shard_of(job_id) for job_id in ids}) > 1

    assert listed(sharded, limit) == sorted(ids, reverse=True)


def test_the_order_of_a_list_is_the_order_of_the_ids(ledger: Ledger) -> None:
    ids = [kit.create(ledger, now=NOW - 1000 * number) for number in range(12)]

    assert listed(ledger, 5) == sorted(ids, reverse=True)


def test_no_page_has_more_jobs_than_the_limit(sharded: Ledger) -> None:
    for _ in range(10):
        kit.create(sharded)

    assert max(len(page.jobs) for page in pages(sharded, 3)) == 3


@pytest.mark.parametrize("status", list(Status))
def test_a_list_can_be_filtered_by_status(ledger: Ledger, status: Status) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease)
    succeeded = kit.settled(ledger)
    ledger.cancel(cancelled := kit.create(ledger), now=NOW)
    ids = {
        Status.QUEUED: kit.create(ledger),
        Status.SUBMITTING: kit.submitting(ledger).job.id,
        Status.UNCONFIRMED: lease.job.id,
        Status.RUNNING: kit.running(ledger),
        Status.SUCCEEDED: succeeded,
        Status.FAILED: failed(ledger),
        Status.CANCELLED: cancelled,
    }

    assert listed(ledger, 1, status=status) == [ids[status]]


def test_a_list_can_be_filtered_by_provider_and_status(ledger: Ledger) -> None:
    hiapi, evolink = kit.create(ledger), kit.create(ledger, OTHER)
    ledger.cancel(cancelled := kit.create(ledger, OTHER), now=NOW)

    assert listed(ledger, 5, provider="hiapi") == [hiapi]
    assert sorted(listed(ledger, 5, provider="evolink")) == sorted([evolink, cancelled])
    assert listed(ledger, 5, provider="evolink", status=Status.QUEUED) == [evolink]
    assert listed(ledger, 5, provider="nobody") == []


def test_a_page_reads_a_limited_number_of_jobs_and_then_has_a_cursor(
    sharded: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MAX_EXAMINED_JOBS", 10)
    match = kit.create(sharded, OTHER)
    kit.eventually(lambda: keys.new_job_id(0)[:14] > match[:14])
    ids = sorted((kit.create(sharded) for _ in range(35)), reverse=True)

    all_pages = list(pages(sharded, 3, provider="evolink"))

    assert [page.cursor for page in all_pages] == [ids[9], ids[19], ids[29], None]
    assert [[job.id for job in page.jobs] for page in all_pages] == [[], [], [], [match]]


def test_expired_jobs_are_left_out(sharded: Ledger, redis: Redis) -> None:
    ids = sorted((kit.create(sharded) for _ in range(20)), reverse=True)
    expire(redis, *ids[1:9], ids[12], ids[-1])

    for limit in (1, 3, 20):
        assert listed(sharded, limit) == [ids[0], *ids[9:12], *ids[13:-1]]


def test_paging_lists_every_job_while_jobs_are_created_and_settled(sharded: Ledger) -> None:
    before = {kit.create(sharded) for _ in range(25)}
    seen: list[str] = []

    for page in pages(sharded, 4):
        seen += [job.id for job in page.jobs]
        for job in page.jobs:
            sharded.cancel(job.id, now=NOW)
        kit.running(sharded)

    assert len(seen) == len(set(seen))
    assert before <= set(seen)


def test_a_cursor_of_an_expired_job_continues(ledger: Ledger, redis: Redis) -> None:
    ids = sorted((kit.create(ledger) for _ in range(4)), reverse=True)
    expire(redis, ids[1])
    redis.zrem(keys.jobs(0), ids[1])

    page = ledger.overview.page(5, cursor=ids[1])

    assert [job.id for job in page.jobs] == ids[2:]


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

    assert sharded.overview.agenda(now=NOW - 1) == AgendaCounts(open=21, due=0, lag=0)
    assert sharded.overview.agenda(now=NOW) == AgendaCounts(open=21, due=1, lag=0)
    assert sharded.overview.agenda(now=NOW + 9) == AgendaCounts(open=21, due=10, lag=9)
    assert sharded.overview.agenda(now=NEXT_DUE) == AgendaCounts(
        open=21, due=21, lag=NEXT_DUE - NOW
    )


def test_an_empty_agenda_has_no_delay(sharded: Ledger) -> None:
    assert sharded.overview.agenda(now=NOW) == AgendaCounts(0, 0, 0)


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


def test_reading_changes_nothing(ledger: Ledger, redis: Redis) -> None:
    unconfirmed(ledger)
    before = kit.state(redis)

    ledger.overview.page(5)
    ledger.overview.counts()
    ledger.overview.agenda(now=NOW)
    ledger.overview.unconfirmed(5)
    list(ledger.overview.snapshots(0))
    with ledger.overview.watch_totals(0) as totals:
        totals()

    assert kit.state(redis) == before
