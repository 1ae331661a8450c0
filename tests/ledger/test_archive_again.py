"""Starting a dead archive again, from the first try."""

from __future__ import annotations

from dataclasses import replace

from redis import Redis

from orchestrator.jobs.model import Copy, FollowUpStatus, Image, Job, Outcome, Step
from orchestrator.ledger import Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import DAY, NEXT_DUE, NOW

DEAD = FollowUpStatus.DEAD


def dead(ledger: Ledger, *images: Image) -> Job:
    """A job whose archive was given up."""
    outcome = Outcome.succeeded(images) if images else kit.SUCCESS
    job_id = kit.settled(ledger, outcome)
    lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE)
    given_up = tuple(replace(i, error="404", given_up=True, tries=6) for i in lease.job.images)
    ledger.follow_ups.done(lease, Step.ARCHIVE, DEAD, now=NOW, tries=6, error="4", images=given_up)
    return kit.job(ledger, job_id)


def reopened(job: Job) -> tuple[Image, ...]:
    return tuple(replace(image, given_up=False, tries=0) for image in job.all_images)


def test_a_dead_archive_starts_again_from_the_first_try(ledger: Ledger, redis: Redis) -> None:
    job = dead(ledger, Image("https://cdn.example.com/0.png", NOW + DAY))
    kit.finish_follow_up(ledger, job.id, Step.NOTIFY)
    assert ledger.follow_ups.given_up(9, now=NOW) == (1, [job.id])

    assert ledger.follow_ups.archive_again(job, reopened(job), now=NEXT_DUE) is Result.RECORDED

    archive = kit.job(ledger, job.id).archive
    assert archive
    assert (archive.status, archive.since, archive.tries) == (FollowUpStatus.PENDING, NEXT_DUE, 0)
    assert [(i.given_up, i.tries) for i in kit.job(ledger, job.id).images] == [(False, 0)]
    assert kit.follow_up_due_at(redis, job.id, Step.ARCHIVE) == NEXT_DUE
    assert redis.zscore(keys.expiring(0), job.id) == NOW + DAY
    assert ledger.follow_ups.given_up(9, now=NOW) == (0, [])
    assert kit.job_ttls(redis, job.id) == {None}
    kit.check_job(redis, job.id)


def test_it_expires_with_the_first_link_that_has_no_copy(ledger: Ledger, redis: Redis) -> None:
    links = [f"https://cdn.example.com/{number}.png" for number in range(3)]
    job = dead(ledger, *(Image(link, NOW + (n + 1) * DAY) for n, link in enumerate(links)))
    first, *others = reopened(job)
    copied = replace(first, copy=Copy("a.png", "5f", 9, 8, 7, "image/png", NOW, None))

    ledger.follow_ups.archive_again(job, (copied, *others), now=NEXT_DUE)

    assert redis.zscore(keys.expiring(0), job.id) == NOW + 2 * DAY


def test_what_a_later_try_stored_is_not_overwritten(ledger: Ledger) -> None:
    job = dead(ledger)
    ledger.follow_ups.archive_again(job, reopened(job), now=NEXT_DUE)
    kit.finish_follow_up(ledger, job.id, Step.ARCHIVE, DEAD, now=NEXT_DUE)
    before = kit.job(ledger, job.id)

    assert ledger.follow_ups.archive_again(job, reopened(job), now=NEXT_DUE) is Result.STALE

    assert kit.job(ledger, job.id) == before


def test_an_archive_that_waits_for_its_next_try_is_due_now(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger)
    lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE)
    ledger.follow_ups.later(lease, Step.ARCHIVE, now=NOW, due_at=NOW + DAY, tries=7, error="full")
    job = kit.job(ledger, job_id)

    result = ledger.follow_ups.archive_again(job, job.all_images, now=NEXT_DUE)

    assert result is Result.RECORDED
    archive = kit.job(ledger, job_id).archive
    assert archive
    assert (archive.status, archive.tries, archive.due_at) == (FollowUpStatus.PENDING, 7, NEXT_DUE)
    assert kit.follow_up_due_at(redis, job_id, Step.ARCHIVE) == NEXT_DUE
    kit.check_job(redis, job_id)


def test_an_archive_that_a_worker_holds_is_left_to_it(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger)
    lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE)
    job = kit.job(ledger, job_id)

    assert ledger.follow_ups.archive_again(job, job.all_images, now=NOW) is Result.RECORDED

    assert kit.job(ledger, job_id) == job
    assert kit.follow_up_due_at(redis, job_id, Step.ARCHIVE) == lease.ends_at


def test_the_list_has_a_limit_and_leaves_out_expired_links(redis: Redis) -> None:
    sharded = Ledger(lambda: redis, shards=3)
    jobs = [
        dead(sharded, Image("https://cdn.example.com/0.png", NOW + minutes * 60_000)).id
        for minutes in (3, 1, 2)
    ]

    assert sharded.follow_ups.given_up(2, now=NOW) == (3, [jobs[1], jobs[2]])
    assert sharded.follow_ups.given_up(9, now=NOW + 60_000) == (2, [jobs[2], jobs[0]])
