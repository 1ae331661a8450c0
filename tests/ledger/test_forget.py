"""Deleting old jobs before the end of their retention time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import FollowUpStatus, SettledBy, Step
from orchestrator.ledger import Ledger, Result, identifiers, keys, overview
from tests.ledger import kit
from tests.ledger.kit import FAILURE, NEXT_DUE, NOTIFYING, NOW, REQUEST

Make = Callable[[Ledger], str]


def forget(ledger: Ledger, job_id: str, before: int = NOW + 1) -> Result:
    return ledger.overview.forget(job_id, before=before)


def dead(ledger: Ledger, now: int = NOW) -> str:
    """Create a failed job with a failed notification. Return its id."""
    job_id = kit.settled(ledger, FAILURE, now=now)
    return kit.finish_follow_up(ledger, job_id, Step.NOTIFY, FollowUpStatus.DEAD, now=now)


def cancelled(ledger: Ledger) -> str:
    job_id = kit.create(ledger, upload=b"a file")
    ledger.cancel(job_id, now=NOW)
    return job_id


def archived(ledger: Ledger) -> str:
    return kit.finish_follow_up(ledger, kit.settled(ledger, request=REQUEST), Step.ARCHIVE)


OLD: dict[str, Make] = {
    "done": kit.finished,
    "notification failed": dead,
    "cancelled": cancelled,
    "archived": archived,
    "no follow-up": lambda ledger: kit.settled(ledger, FAILURE, REQUEST),
}
KEPT: dict[str, Make] = {
    "queued": kit.create,
    "running": kit.running,
    "waiting": lambda ledger: kit.create(ledger, NOTIFYING),
    "archive pending": lambda x: kit.finish_follow_up(x, kit.settled(x), Step.NOTIFY),
    "notify pending": lambda x: kit.finish_follow_up(x, kit.settled(x), Step.ARCHIVE),
    "only the archive": lambda x: kit.settled(x, request=REQUEST),
    "only the notification": lambda x: kit.settled(x, FAILURE),
}


@pytest.mark.parametrize("which", OLD)
def test_an_ended_job_is_deleted_with_all_its_keys_and_entries(
    ledger: Ledger, redis: Redis, which: str
) -> None:
    job_id, other = OLD[which](ledger), dead(ledger)

    assert forget(ledger, job_id) is Result.FORGOTTEN

    assert ledger.get(job_id) is None
    assert kit.keys_of(redis, job_id) == []
    assert redis.zrange(keys.jobs(0), 0, -1) == [other]
    assert redis.zrange(keys.dead(0), 0, -1) == [other]
    assert kit.job(ledger, other)
    assert forget(ledger, job_id) is Result.MISSING


@pytest.mark.parametrize("which", OLD)
def test_a_job_that_was_settled_after_the_time_is_kept(
    ledger: Ledger, redis: Redis, which: str
) -> None:
    job_id = OLD[which](ledger)
    before = kit.state(redis)

    assert forget(ledger, job_id, NOW) is Result.KEPT
    assert forget(ledger, job_id, NOW - 1) is Result.KEPT

    assert kit.state(redis) == before
    assert ledger.uploads.get(job_id) == (b"a file" if which == "cancelled" else None)


@pytest.mark.parametrize("which", KEPT)
def test_an_open_job_or_one_with_a_pending_follow_up_is_kept(
    ledger: Ledger, redis: Redis, which: str
) -> None:
    job_id = KEPT[which](ledger)
    before = kit.state(redis)

    assert forget(ledger, job_id, NEXT_DUE * 2) is Result.KEPT

    assert kit.state(redis) == before
    kit.check_job(redis, job_id)


def test_settlement_times_are_compared_as_numbers(ledger: Ledger) -> None:
    job_id = dead(ledger, now=1_000)

    assert forget(ledger, job_id, 999) is Result.KEPT
    assert forget(ledger, job_id, 10_000) is Result.FORGOTTEN


def test_an_expired_job_is_removed_from_the_index(ledger: Ledger, redis: Redis) -> None:
    expired, existing = kit.create(ledger), kit.create(ledger)
    redis.delete(keys.job(expired), keys.events(expired))

    assert forget(ledger, expired) is Result.MISSING

    assert redis.zrange(keys.jobs(0), 0, -1) == [existing]


def test_an_unconfirmed_attempt_of_a_deleted_job_is_kept_for_the_retention_time(
    ledger: Ledger,
) -> None:
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease, due_at=NOW)
    again = kit.claim(ledger, lease.job.id)
    ledger.settle(again, FAILURE, SettledBy.DEADLINE, now=NOW)

    assert forget(ledger, lease.job.id) is Result.FORGOTTEN

    assert ledger.overview.unconfirmed(9)[0] == 1
    assert ledger.overview.tidy(oldest=NOW + 1) == 1
    assert ledger.overview.unconfirmed(9)[0] == 0


def test_deleting_a_job_does_not_change_the_counts(ledger: Ledger, redis: Redis) -> None:
    kit.running(ledger)
    job_id = dead(ledger)
    before = ledger.overview.counts()

    forget(ledger, job_id)

    assert ledger.overview.counts() == before
    kit.check_counts(ledger, redis)


# Which jobs are old ------------------------------------------------------------------------


def test_jobs_created_before_a_time_are_listed_oldest_first_in_pages(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PAGE_JOBS", 4)
    ids = sorted(kit.create(ledger) for _ in range(6))
    young = kit.create(ledger, now=NOW + 1)

    def listed(time: int) -> list[list[str]]:
        return list(ledger.overview.created_before(0, time))

    assert listed(identifiers.created_at(young)) == [ids[:4], ids[4:]]
    assert listed(identifiers.created_at(young) + 1) == [ids[:4], [*ids[4:], young]]
    assert listed(identifiers.created_at(ids[0])) == []
    first = [
        job_id for job_id in ids if identifiers.created_at(job_id) == identifiers.created_at(ids[0])
    ]
    same = [job_id for page in listed(identifiers.created_at(ids[0]) + 1) for job_id in page]
    assert same == first


def test_the_listing_stops_at_the_first_young_job(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PAGE_JOBS", 2)
    ids = [kit.create(ledger) for _ in range(9)]
    pages: list[list[str]] = []
    listed = overview.Overview._listed

    def record(*args: Any) -> Iterator[list[str]]:
        for page in listed(*args):
            pages.append(page)
            yield page

    monkeypatch.setattr(overview.Overview, "_listed", record)

    assert list(ledger.overview.created_before(0, identifiers.created_at(min(ids)))) == []
    assert pages == [sorted(ids)[:2]]


def test_each_shard_lists_its_old_jobs(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, shards=3)
    ids = [kit.create(ledger) for _ in range(20)]
    end = identifiers.created_at(max(ids)) + 1

    for shard in range(3):
        ids_of_shard = [i for page in ledger.overview.created_before(shard, end) for i in page]
        assert ids_of_shard == sorted(i for i in ids if identifiers.shard_of(i) == shard)


def test_jobs_may_be_deleted_while_they_are_listed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PAGE_JOBS", 3)
    ids = [dead(ledger) for _ in range(10)]

    pages = ledger.overview.created_before(0, identifiers.created_at(max(ids)) + 1)
    results = [forget(ledger, job_id) for page in pages for job_id in page]

    assert results == [Result.FORGOTTEN] * 10
    assert ledger.overview.size() == 0


def test_a_job_id_contains_its_creation_time() -> None:
    assert {
        identifiers.created_at(identifiers.new_job_id(shard, NOW)) for shard in (0, 7, 255)
    } == {NOW}
    assert identifiers.created_at("job_01jd000000000000000000000000") == (
        32**8 + 18 * 32**7 + 13 * 32**6
    )
