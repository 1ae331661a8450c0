"""A success that comes after the outcome: the outcome stands, and the images are kept."""

from __future__ import annotations

import pytest
from redis import Redis

from orchestrator.jobs.model import FollowUp, FollowUpStatus, Status, Step
from orchestrator.ledger import Ledger, Result, Settlement, keys
from tests.ledger import kit
from tests.ledger.kit import COPIED, DAY, FAILURE, NOTIFYING, NOW, REQUEST, RETENTION, SUCCESS


def late_success(ledger: Ledger, job_id: str) -> Result:
    task_id = str(kit.job(ledger, job_id).attempt.task_id)
    return ledger.settle_attempt(job_id, 1, task_id, SUCCESS, now=NOW).result


def test_the_outcome_stands_and_the_images_are_archived(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger, FAILURE, REQUEST)
    assert kit.ttl(redis, f"{{orch:0}}:job:{job_id}") is not None

    assert late_success(ledger, job_id) is Result.LATE

    job = kit.job(ledger, job_id)
    assert (job.status, job.error, job.images) == (Status.FAILED, FAILURE.error, ())
    assert (job.late_images, job.done) == (SUCCESS.images, False)
    kit.check_job(redis, job_id)
    lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE)
    ledger.follow_ups.done(
        lease, Step.ARCHIVE, FollowUpStatus.DONE, now=NOW, tries=1, images=COPIED
    )
    job = kit.job(ledger, job_id)
    assert (job.images, job.late_images, job.done) == ((), COPIED, True)
    kit.check_job(redis, job_id)


def test_a_repeated_late_result_is_a_duplicate(ledger: Ledger) -> None:
    job_id = kit.settled(ledger, FAILURE)
    late_success(ledger, job_id)

    assert late_success(ledger, job_id) is Result.DUPLICATE
    assert kit.job(ledger, job_id).late_images == SUCCESS.images


def test_an_archive_that_runs_now_does_not_hide_the_late_images(ledger: Ledger) -> None:
    lease = kit.resubmitting(ledger)
    ledger.settle_attempt(lease.job.id, 2, "second", SUCCESS, now=NOW)
    step = kit.claim_follow_up(ledger, lease.job.id, Step.ARCHIVE)

    settlement = ledger.settle_attempt(lease.job.id, 1, "first", SUCCESS, now=NOW)

    assert (settlement.result, settlement.due) == (Result.LATE, (Step.ARCHIVE,))
    assert kit.end_follow_up(ledger, step, Step.ARCHIVE) is Result.STALE
    assert kit.job(ledger, lease.job.id).all_images == SUCCESS.images * 2


@pytest.mark.parametrize("ended", [FollowUpStatus.DONE, FollowUpStatus.DEAD])
def test_the_caller_hears_of_the_outcome_first(ledger: Ledger, ended: FollowUpStatus) -> None:
    job_id = kit.settled(ledger, FAILURE, NOTIFYING)
    first = kit.claim_follow_up(ledger, job_id, Step.NOTIFY)

    late_success(ledger, job_id)
    assert not first.job.notifies_late_result
    assert kit.end_follow_up(ledger, first, Step.NOTIFY, ended) is Result.RECORDED

    second = kit.claim_follow_up(ledger, job_id, Step.NOTIFY)
    assert second.job.notifies_late_result
    assert second.job.notification is not None
    assert second.job.notification.tries == 0
    kit.end_follow_up(ledger, second, Step.NOTIFY)
    job = kit.job(ledger, job_id)
    assert (job.notification and job.notification.status) == FollowUpStatus.DONE
    assert not job.notifies_late_result


def test_a_late_result_takes_its_job_off_the_failed_notifications(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.settled(ledger, FAILURE, NOTIFYING)
    kit.finish_follow_up(ledger, job_id, Step.NOTIFY, FollowUpStatus.DEAD)
    assert redis.zscore(keys.dead(0), job_id) is not None

    late_success(ledger, job_id)

    assert redis.zscore(keys.dead(0), job_id) is None
    assert kit.job(ledger, job_id).notifies_late_result


def test_a_caller_that_wants_no_notification_gets_no_second_one(ledger: Ledger) -> None:
    job_id = kit.settled(ledger, FAILURE, NOTIFYING)
    kit.finish_follow_up(ledger, job_id, Step.NOTIFY, FollowUpStatus.GONE)

    late_success(ledger, job_id)

    assert ledger.follow_ups.claim(job_id, Step.NOTIFY, now=NOW, lease_ms=1) is None


def test_no_provider_task_is_bound_to_two_jobs(ledger: Ledger) -> None:
    first, second = kit.submitting(ledger).job.id, kit.submitting(ledger).job.id
    ledger.accepted(first, 1, "task", now=NOW, due_at=NOW)

    results = [
        ledger.accepted(second, 1, "task", now=NOW, due_at=NOW),
        ledger.observe(second, 1, "task", now=NOW, due_at=NOW, fallback=NOW).result,
        ledger.settle_attempt(second, 1, "task", SUCCESS, now=NOW).result,
    ]

    assert results == [Result.MISMATCH] * 3
    assert kit.job(ledger, second).status is Status.SUBMITTING
    assert ledger.accepted(first, 1, "task", now=NOW, due_at=NOW) is Result.RUNNING


def test_a_second_late_callback_takes_the_lease_of_the_confirm_step(ledger: Ledger) -> None:
    job_id = kit.confirming(ledger)
    lease = kit.claim_follow_up(ledger, job_id, Step.CONFIRM)

    kit.late_callback(ledger, job_id)

    assert kit.end_follow_up(ledger, lease, Step.CONFIRM) is Result.STALE
    assert kit.job(ledger, job_id).confirms_attempts == (1,)
    kit.finish_follow_up(ledger, job_id, Step.CONFIRM)
    assert kit.job(ledger, job_id).done


def test_without_an_archive_a_success_has_no_follow_up_and_expires(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, archives=False, retention_ms=RETENTION)
    job_id = kit.running(ledger)

    settled = ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)

    assert settled == Settlement(Result.SETTLED)
    job = kit.job(ledger, job_id)
    assert job.archive == FollowUp(FollowUpStatus.OFF)
    assert (job.images, job.done) == (SUCCESS.images, True)
    assert all((ttl or 0) > RETENTION - kit.TTL_MARGIN for ttl in kit.job_ttls(redis, job_id))
    assert ledger.follow_ups.due(0, Step.ARCHIVE, now=NOW + DAY, limit=9) == []
    kit.check_job(redis, job_id)


def test_without_an_archive_a_late_result_is_kept_and_told(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, archives=False, retention_ms=RETENTION)
    lease = kit.claim(ledger, kit.create(ledger, NOTIFYING))
    ledger.accepted(lease.job.id, 1, "task-1", now=NOW, due_at=NOW)
    ledger.settle_attempt(lease.job.id, 1, "task-1", FAILURE, now=NOW)
    kit.finish_follow_up(ledger, lease.job.id, Step.NOTIFY)

    late = ledger.settle_attempt(lease.job.id, 1, "task-1", SUCCESS, now=NOW)

    assert (late.result, late.due) == (Result.LATE, (Step.NOTIFY,))
    job = kit.job(ledger, lease.job.id)
    assert job.late_images
    assert job.archive == FollowUp(FollowUpStatus.OFF)
