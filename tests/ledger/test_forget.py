"""Forgetting jobs before their time, with all that is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import FollowUpStatus, SettledBy, Step
from orchestrator.ledger import Ledger, Result, keys, overview
from tests.ledger import kit
from tests.ledger.kit import FAILURE, LOOK, NOTIFYING, NOW, REQUEST

Make = Callable[[Ledger], str]


def forget(ledger: Ledger, job_id: str, before: int = NOW + 1) -> Result:
    return ledger.overview.forget(job_id, before=before)


def dead(ledger: Ledger, now: int = NOW) -> str:
    """A job that failed and whose caller could not be told; its id."""
    job_id = kit.ended(ledger, FAILURE, now=now)
    return kit.followed(ledger, job_id, Step.NOTIFY, FollowUpStatus.DEAD, now=now)


def called_off(ledger: Ledger) -> str:
    job_id = kit.create(ledger, upload=b"a file")
    ledger.cancel(job_id, now=NOW)
    return job_id


def unfollowed(ledger: Ledger) -> str:
    return kit.followed(ledger, kit.ended(ledger, request=REQUEST), Step.ARCHIVE)


OLD: dict[str, Make] = {
    "done": kit.quiet,
    "given up": dead,
    "called off": called_off,
    "archived": unfollowed,
    "nothing follows": lambda ledger: kit.ended(ledger, FAILURE, REQUEST),
}
KEPT: dict[str, Make] = {
    "queued": kit.create,
    "running": kit.running,
    "waiting": lambda ledger: kit.create(ledger, NOTIFYING),
    "archive pending": lambda x: kit.followed(x, kit.ended(x), Step.NOTIFY),
    "notify pending": lambda x: kit.followed(x, kit.ended(x), Step.ARCHIVE),
    "only the archive": lambda x: kit.ended(x, request=REQUEST),
    "only the notification": lambda x: kit.ended(x, FAILURE),
}


@pytest.mark.parametrize("which", OLD)
def test_a_job_that_is_done_is_forgotten_with_all_that_is_kept_of_it(
    ledger: Ledger, redis: Redis, which: str
) -> None:
    job_id, other = OLD[which](ledger), dead(ledger)

    assert forget(ledger, job_id) is Result.FORGOTTEN

    assert ledger.get(job_id) is None
    assert [key for key in kit.every_key(redis) if job_id in key] == []
    assert redis.zrange(keys.jobs(0), 0, -1) == [other]
    assert redis.zrange(keys.dead(0), 0, -1) == [other]
    assert kit.job(ledger, other)
    assert forget(ledger, job_id) is Result.MISSING


@pytest.mark.parametrize("which", OLD)
def test_a_job_that_was_settled_later_is_kept(ledger: Ledger, redis: Redis, which: str) -> None:
    job_id = OLD[which](ledger)
    before = kit.everything(redis)

    assert forget(ledger, job_id, NOW) is Result.KEPT
    assert forget(ledger, job_id, NOW - 1) is Result.KEPT

    assert kit.everything(redis) == before
    assert ledger.upload(job_id) == (b"a file" if which == "called off" else None)


@pytest.mark.parametrize("which", KEPT)
def test_a_job_that_is_open_or_to_be_followed_up_is_kept(
    ledger: Ledger, redis: Redis, which: str
) -> None:
    job_id = KEPT[which](ledger)
    before = kit.everything(redis)

    assert forget(ledger, job_id, LOOK * 2) is Result.KEPT

    assert kit.everything(redis) == before
    kit.invariant(redis, job_id)


def test_times_of_settlement_are_compared_as_numbers(ledger: Ledger) -> None:
    job_id = dead(ledger, now=1_000)

    assert forget(ledger, job_id, 999) is Result.KEPT
    assert forget(ledger, job_id, 10_000) is Result.FORGOTTEN


def test_what_is_left_of_a_job_that_expired_leaves_the_index(ledger: Ledger, redis: Redis) -> None:
    gone, there = kit.create(ledger), kit.create(ledger)
    redis.delete(keys.job(gone), keys.events(gone))

    assert forget(ledger, gone) is Result.MISSING

    assert redis.zrange(keys.jobs(0), 0, -1) == [there]


def test_what_may_be_owed_outlives_a_job_that_is_forgotten_until_it_would_have_expired(
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


def test_a_job_that_is_forgotten_is_not_missed_by_the_counts_of_open_ones(
    ledger: Ledger, redis: Redis
) -> None:
    kit.running(ledger)
    job_id = dead(ledger)
    before = ledger.overview.counts()

    forget(ledger, job_id)

    assert ledger.overview.counts() == before
    kit.count_right(ledger, redis)


# Which jobs are old ------------------------------------------------------------------------


def test_jobs_made_before_a_time_are_listed_oldest_first_in_pages(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PAGE_JOBS", 4)
    ids = sorted(kit.create(ledger) for _ in range(6))
    kit.eventually(lambda: keys.created_at(keys.new_job_id(0)) > keys.created_at(ids[-1]))
    young = kit.create(ledger)

    def listed(time: int) -> list[list[str]]:
        return list(ledger.overview.created_before(0, time))

    assert listed(keys.created_at(young)) == [ids[:4], ids[4:]]
    assert listed(keys.created_at(young) + 1) == [ids[:4], [*ids[4:], young]]
    assert listed(keys.created_at(ids[0])) == []
    first = [job_id for job_id in ids if keys.created_at(job_id) == keys.created_at(ids[0])]
    found = [job_id for page in listed(keys.created_at(ids[0]) + 1) for job_id in page]
    assert found == first


def test_young_jobs_are_not_gone_through(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "PAGE_JOBS", 2)
    ids = [kit.create(ledger) for _ in range(9)]
    pages: list[list[str]] = []
    listed = overview.Overview._listed

    def seen(*args: Any) -> Iterator[list[str]]:
        for page in listed(*args):
            pages.append(page)
            yield page

    monkeypatch.setattr(overview.Overview, "_listed", seen)

    assert list(ledger.overview.created_before(0, keys.created_at(min(ids)))) == []
    assert pages == [sorted(ids)[:2]]


def test_each_shard_has_its_old_jobs(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, shards=3)
    ids = [kit.create(ledger) for _ in range(20)]
    end = keys.created_at(max(ids)) + 1

    for shard in range(3):
        found = [i for page in ledger.overview.created_before(shard, end) for i in page]
        assert found == sorted(i for i in ids if keys.shard_of(i) == shard)


def test_jobs_may_be_forgotten_while_they_are_listed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PAGE_JOBS", 3)
    ids = [dead(ledger) for _ in range(10)]

    pages = ledger.overview.created_before(0, keys.created_at(max(ids)) + 1)
    results = [forget(ledger, job_id) for page in pages for job_id in page]

    assert results == [Result.FORGOTTEN] * 10
    assert ledger.overview.size() == 0


def test_a_job_id_tells_when_it_was_made() -> None:
    made = [keys.created_at(keys.new_job_id(shard)) for shard in (0, 7, 255)]

    assert all(0 <= later - earlier < 60_000 for earlier, later in pairwise(made))
    assert keys.created_at("job_01jd000000000000000000000000") == (32**8 + 18 * 32**7 + 13 * 32**6)
