"""Looks over the whole ledger: lists, counts, what is overdue, and what may be paid in vain."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from orchestrator.jobs.model import ErrorCode, JobError, JobRequest, Outcome, SettledBy, Status
from orchestrator.ledger import Lease, Ledger, Result, keys, overview
from orchestrator.ledger.overview import Agenda, Page, Unconfirmed
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, LOOK, NOW, SUCCESS

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
    """The ids of every page, one after the other."""
    return [job.id for page in pages(ledger, limit, **filters) for job in page.jobs]


def expire(redis: Redis, *job_ids: str) -> None:
    """What Redis does when their retention time is over."""
    for job_id in job_ids:
        redis.delete(keys.job(job_id), keys.events(job_id))


def settled(ledger: Ledger) -> str:
    """A job that failed at once; its id."""
    lease = kit.submitting(ledger)
    ledger.settle(lease, FAILURE, SettledBy.SUBMIT, now=NOW)
    return lease.job.id


# Pages -------------------------------------------------------------------------------------


def test_a_page_lists_whole_jobs_newest_first(ledger: Ledger) -> None:
    ids = [kit.create(ledger), kit.running(ledger), settled(ledger)]

    page = ledger.overview.page(10)

    newest_first = sorted(ids, reverse=True)
    assert page == Page([kit.job(ledger, job_id) for job_id in newest_first], None)


def test_an_empty_ledger_has_one_empty_page(sharded: Ledger) -> None:
    assert sharded.overview.page(10) == Page([], None)


@pytest.mark.parametrize("limit", [1, 2, 7, 40, 100])
def test_pages_go_through_all_shards_in_order_and_list_each_job_once(
    sharded: Ledger, limit: int
) -> None:
    ids = [kit.create(sharded) for _ in range(40)]
    assert len({keys.shard_of(job_id) for job_id in ids}) > 1

    assert listed(sharded, limit) == sorted(ids, reverse=True)


def test_the_order_is_that_of_the_ids_whatever_time_the_callers_told(ledger: Ledger) -> None:
    ids = [kit.create(ledger, now=NOW - 1000 * number) for number in range(12)]

    assert listed(ledger, 5) == sorted(ids, reverse=True)


def test_no_page_holds_more_than_was_asked_for(sharded: Ledger) -> None:
    for _ in range(10):
        kit.create(sharded)

    assert max(len(page.jobs) for page in pages(sharded, 3)) == 3


@pytest.mark.parametrize("status", list(Status))
def test_a_status_can_be_asked_for(ledger: Ledger, status: Status) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease)
    succeeded = kit.running(ledger)
    ledger.settle_attempt(succeeded, 1, "task-1", SUCCESS, now=NOW)
    ledger.cancel(cancelled := kit.create(ledger), now=NOW)
    ids = {
        Status.QUEUED: kit.create(ledger),
        Status.SUBMITTING: kit.submitting(ledger).job.id,
        Status.UNCONFIRMED: lease.job.id,
        Status.RUNNING: kit.running(ledger),
        Status.SUCCEEDED: succeeded,
        Status.FAILED: settled(ledger),
        Status.CANCELLED: cancelled,
    }

    assert listed(ledger, 1, status=status) == [ids[status]]


def test_a_provider_can_be_asked_for_alone_and_with_a_status(ledger: Ledger) -> None:
    mine, other = kit.create(ledger), kit.create(ledger, OTHER)
    ledger.cancel(called_off := kit.create(ledger, OTHER), now=NOW)

    assert listed(ledger, 5, provider="hiapi") == [mine]
    assert sorted(listed(ledger, 5, provider="evolink")) == sorted([other, called_off])
    assert listed(ledger, 5, provider="evolink", status=Status.QUEUED) == [other]
    assert listed(ledger, 5, provider="nobody") == []


def test_a_page_looks_at_so_many_jobs_at_most_and_then_says_where_to_go_on(
    sharded: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MAX_EXAMINED_JOBS", 10)
    wanted = kit.create(sharded, OTHER)
    kit.eventually(lambda: keys.new_job_id(0)[:14] > wanted[:14])
    ids = sorted((kit.create(sharded) for _ in range(35)), reverse=True)

    found = list(pages(sharded, 3, provider="evolink"))

    assert [page.cursor for page in found] == [ids[9], ids[19], ids[29], None]
    assert [[job.id for job in page.jobs] for page in found] == [[], [], [], [wanted]]


def test_expired_jobs_in_between_are_left_out(sharded: Ledger, redis: Redis) -> None:
    ids = sorted((kit.create(sharded) for _ in range(20)), reverse=True)
    expire(redis, *ids[1:9], ids[12], ids[-1])

    for limit in (1, 3, 20):
        assert listed(sharded, limit) == [ids[0], *ids[9:12], *ids[13:-1]]


def test_paging_loses_no_job_that_was_there_while_others_come_and_move(sharded: Ledger) -> None:
    before = {kit.create(sharded) for _ in range(25)}
    seen: list[str] = []

    for page in pages(sharded, 4):
        seen += [job.id for job in page.jobs]
        for job in page.jobs:
            sharded.cancel(job.id, now=NOW)
        kit.running(sharded)

    assert len(seen) == len(set(seen))
    assert before <= set(seen)


def test_a_cursor_whose_own_job_has_expired_still_continues(ledger: Ledger, redis: Redis) -> None:
    ids = sorted((kit.create(ledger) for _ in range(4)), reverse=True)
    expire(redis, ids[1])
    redis.zrem(keys.jobs(0), ids[1])

    page = ledger.overview.page(5, cursor=ids[1])

    assert [job.id for job in page.jobs] == ids[2:]


# Counts ------------------------------------------------------------------------------------


def test_counts_of_open_jobs_move_with_them_and_those_of_ended_ones_only_grow(
    sharded: Ledger, redis: Redis
) -> None:
    ended = [settled(sharded) for _ in range(6)]
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


def test_an_event_over_the_cap_of_a_timeline_is_counted_too(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    redis.rpush(keys.events(job_id), *[f"{NOW} polled {{}}"] * 200)

    ledger.settle_attempt(job_id, 1, "task-x", SUCCESS, now=NOW)

    assert ledger.overview.counts()["mismatch"] == 1


def test_an_empty_ledger_counts_nothing(sharded: Ledger) -> None:
    assert sharded.overview.counts() == {}
    assert sharded.overview.size() == 0


def test_the_size_is_how_many_jobs_are_listed(sharded: Ledger) -> None:
    for _ in range(9):
        kit.create(sharded)

    assert sharded.overview.size() == 9


# The agenda --------------------------------------------------------------------------------


def test_the_agenda_tells_what_is_open_what_is_due_and_the_longest_delay(sharded: Ledger) -> None:
    for late in range(20):
        kit.create(sharded, now=NOW + late)
    kit.running(sharded)
    settled(sharded)

    assert sharded.overview.agenda(now=NOW - 1) == Agenda(open=21, due=0, lag=0)
    assert sharded.overview.agenda(now=NOW) == Agenda(open=21, due=1, lag=0)
    assert sharded.overview.agenda(now=NOW + 9) == Agenda(open=21, due=10, lag=9)
    assert sharded.overview.agenda(now=LOOK) == Agenda(open=21, due=21, lag=LOOK - NOW)


def test_an_empty_agenda_has_no_delay(sharded: Ledger) -> None:
    assert sharded.overview.agenda(now=NOW) == Agenda(0, 0, 0)


# Attempts of unknown fate ------------------------------------------------------------------


def at_risk(ledger: Ledger) -> list[Unconfirmed]:
    number, found = ledger.overview.unconfirmed(100)
    assert number == len(found)
    return found


def unconfirmed(ledger: Ledger) -> Lease:
    """A job whose first attempt got no answer, in the hands of the next worker."""
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease, due_at=NOW + 1)
    return kit.claim(ledger, lease.job.id, now=NOW + 1)


def test_an_attempt_without_an_answer_is_at_risk(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)
    assert at_risk(ledger) == []

    kit.unconfirmed(ledger, lease)

    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]


def test_an_attempt_whose_worker_died_is_at_risk(ledger: Ledger) -> None:
    lease = kit.submitting(ledger)

    kit.claim(ledger, lease.job.id, now=lease.ends_at)

    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, lease.ends_at)]


def test_sending_again_keeps_the_first_time(ledger: Ledger) -> None:
    lease = unconfirmed(ledger)

    result = ledger.unconfirmed(lease, now=LOOK, due_at=LOOK, tries=1, reason="again")

    assert result is Result.UNCONFIRMED
    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]


#: Evidence of which task the attempt is, and nothing else, ends the risk.
EVIDENCE: dict[str, Callable[[Ledger, str], object]] = {
    "acceptance": lambda x, i: x.accepted(i, 1, "task-1", now=NOW, due_at=LOOK),
    "callback": lambda x, i: x.settle_attempt(i, 1, "task-1", SUCCESS, now=NOW),
    "failure": lambda x, i: x.settle_attempt(i, 1, "task-1", FAILURE, now=NOW),
    "news": lambda x, i: x.observe(i, 1, "task-1", now=NOW, due_at=None, fallback=LOOK),
}


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_the_risk_ends_when_the_task_is_known(ledger: Ledger, evidence: str) -> None:
    lease, other = unconfirmed(ledger), unconfirmed(ledger)

    EVIDENCE[evidence](ledger, lease.job.id)

    assert [found.job_id for found in at_risk(ledger)] == [other.job.id]


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_the_risk_outlives_a_job_that_gave_up_until_its_task_is_known_after_all(
    ledger: Ledger, evidence: str
) -> None:
    lease = unconfirmed(ledger)
    gave_up = Outcome.failed(JobError(ErrorCode.SUBMISSION_UNCONFIRMED, "no answer"))
    ledger.settle(lease, gave_up, SettledBy.DEADLINE, now=DEADLINE)
    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]

    EVIDENCE[evidence](ledger, lease.job.id)

    assert at_risk(ledger) == []


def test_the_risk_outlives_a_resubmission_and_that_ones_success(ledger: Ledger) -> None:
    lease = unconfirmed(ledger)
    job_id = lease.job.id
    kit.resubmit(ledger, lease)
    kit.claim(ledger, job_id)

    ledger.settle_attempt(job_id, 2, "task-2", SUCCESS, now=NOW)

    assert at_risk(ledger) == [Unconfirmed(job_id, 1, NOW)]
    ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)
    assert at_risk(ledger) == []


def test_another_tasks_claim_does_not_end_the_risk_of_an_attempt_that_was_not_made(
    ledger: Ledger,
) -> None:
    lease = unconfirmed(ledger)

    assert ledger.accepted(lease.job.id, 2, "task-2", now=NOW, due_at=LOOK) is Result.MISMATCH

    assert at_risk(ledger) == [Unconfirmed(lease.job.id, 1, NOW)]


def test_the_newest_risks_of_all_shards_come_first_and_all_are_counted(sharded: Ledger) -> None:
    leases = [kit.submitting(sharded) for _ in range(12)]
    for number, lease in enumerate(leases):
        sharded.unconfirmed(lease, now=NOW + number, due_at=LOOK, tries=1, reason="")

    number, found = sharded.overview.unconfirmed(5)

    assert number == 12
    assert [entry.since - NOW for entry in found] == [11, 10, 9, 8, 7]
    assert [entry.job_id for entry in found] == [lease.job.id for lease in leases[:6:-1]]


# All of it --------------------------------------------------------------------------------


def test_looking_changes_nothing(ledger: Ledger, redis: Redis) -> None:
    unconfirmed(ledger)
    before = kit.everything(redis)

    ledger.overview.page(5)
    ledger.overview.counts()
    ledger.overview.agenda(now=NOW)
    ledger.overview.unconfirmed(5)
    list(ledger.overview.snapshots(0))
    with ledger.overview.watch_counts(0) as counts:
        counts()

    assert kit.everything(redis) == before
