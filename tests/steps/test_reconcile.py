"""The sweep: every due job is nudged, and no other job is read."""

from __future__ import annotations

import fakeredis
import pytest
from structlog.testing import capture_logs

from orchestrator.jobs.model import Image, Outcome, Step
from orchestrator.ledger import Ledger, LedgerUnavailable, identifiers, keys
from orchestrator.steps import reconcile as module
from orchestrator.steps.reconcile import reconcile
from orchestrator.steps.submit import submit
from tests.support import job_states
from tests.support.fakes import Harness, answer

ACCEPTED = answer(200, {"data": {"taskId": "task-1"}})


def test_every_due_job_is_nudged_for_the_step_it_waits_for(harness: Harness) -> None:
    harness.provider.answers(ACCEPTED)
    running, queued = harness.enqueue(), harness.enqueue()
    submit(harness.runtime, running)
    harness.clock.forward(30)
    harness.nudges.sent.clear()

    assert reconcile(harness.runtime) == 2

    assert set(harness.nudges.sent) == {(Step.POLL, running), (Step.SUBMIT, queued)}


def test_a_job_that_is_not_due_is_not_nudged(harness: Harness) -> None:
    harness.provider.answers(ACCEPTED)
    submit(harness.runtime, harness.enqueue())
    harness.clock.forward(29.9)
    harness.nudges.sent.clear()

    assert reconcile(harness.runtime) == 0

    assert harness.nudges.sent == []


def test_a_lost_nudge_is_sent_again_by_the_next_sweep(harness: Harness) -> None:
    job_id = harness.enqueue()
    harness.nudges.sent.clear()  # the message was lost

    reconcile(harness.runtime)

    assert harness.nudges.sent == [(Step.SUBMIT, job_id)]


def test_a_sweep_changes_no_job(harness: Harness) -> None:
    job_id = harness.enqueue()
    before = harness.job(job_id)

    assert [reconcile(harness.runtime), reconcile(harness.runtime)] == [1, 1]

    assert harness.job(job_id) == before
    assert harness.seconds_until_due(job_id) == 0


def test_every_shard_is_swept(harness: Harness) -> None:
    sharded = harness.on(Ledger(lambda: harness.redis, shards=4))
    job_ids = {sharded.enqueue() for _ in range(40)}
    sharded.nudges.sent.clear()

    assert reconcile(sharded.runtime) == 40

    assert {job_id for _, job_id in sharded.nudges.sent} == job_ids
    assert {identifiers.shard_of(job_id) for job_id in job_ids} == {0, 1, 2, 3}


def test_a_sweep_nudges_a_limited_number_of_jobs_oldest_first(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_JOBS", 2)
    job_ids = []
    for _ in range(3):
        job_ids.append(harness.enqueue())
        harness.clock.forward(1)
    harness.nudges.sent.clear()

    assert reconcile(harness.runtime) == 2

    assert [job_id for _, job_id in harness.nudges.sent] == job_ids[:2]


def succeeded(harness: Harness, minutes: int) -> str:
    """Return a succeeded job with an image link that expires in these minutes."""
    expires_at = harness.clock.now + minutes * 60_000
    return job_states.ended(
        harness, Outcome.succeeded((Image("https://e.example/0.png", expires_at),))
    )


def test_follow_ups_are_nudged_until_they_are_done(harness: Harness) -> None:
    archive = succeeded(harness, 60)
    both = job_states.ended(harness, notify_stream="told")
    notify = job_states.ended(harness, job_states.failure(), notify_stream="told")
    job_states.ended(harness, job_states.failure())
    harness.nudges.sent.clear()

    assert reconcile(harness.runtime) == 4

    follow_ups = {(Step.ARCHIVE, archive), (Step.ARCHIVE, both)}
    follow_ups |= {(Step.NOTIFY, both), (Step.NOTIFY, notify)}
    assert set(harness.nudges.sent) == follow_ups
    harness.nudges.sent.clear()
    claim = harness.ledger.follow_ups.claim
    assert claim(archive, Step.ARCHIVE, now=harness.clock.now, lease_ms=60_000)
    assert reconcile(harness.runtime) == 3
    assert set(harness.nudges.sent) == follow_ups - {(Step.ARCHIVE, archive)}, "it is under way"
    harness.clock.forward(60)
    assert reconcile(harness.runtime) == 4, "whoever had it is gone"


def test_images_with_the_earliest_expiry_are_nudged_first(harness: Harness) -> None:
    minutes = [50, 10, 40, 30, 20]
    jobs = {minute: succeeded(harness, minute) for minute in minutes}
    harness.nudges.sent.clear()

    reconcile(harness.runtime)

    assert harness.nudges.sent == [(Step.ARCHIVE, jobs[minute]) for minute in sorted(minutes)]


def test_open_jobs_are_nudged_before_follow_ups(harness: Harness) -> None:
    harness.provider.answers(ACCEPTED)
    archive, queued = succeeded(harness, 1), harness.enqueue()
    harness.nudges.sent.clear()

    reconcile(harness.runtime)

    assert harness.nudges.sent == [(Step.SUBMIT, queued), (Step.ARCHIVE, archive)]


def test_a_sweep_nudges_a_limited_number_of_follow_ups(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FOLLOW_UPS", 2)
    jobs = {minute: succeeded(harness, minute) for minute in (30, 10, 20)}
    notify = [
        job_states.ended(harness, job_states.failure(), notify_stream="told") for _ in range(3)
    ]
    harness.nudges.sent.clear()

    assert reconcile(harness.runtime) == 4

    sent = [job_id for step, job_id in harness.nudges.sent if step is Step.ARCHIVE]
    assert sent == [jobs[10], jobs[20]]
    assert {job_id for step, job_id in harness.nudges.sent if step is Step.NOTIFY} < set(notify)


def test_the_follow_ups_of_every_shard_are_swept(harness: Harness) -> None:
    sharded = harness.on(Ledger(lambda: harness.redis, shards=4))
    job_ids = {succeeded(sharded, 60) for _ in range(40)}
    harness.nudges.sent.clear()

    assert reconcile(sharded.runtime) == 40

    assert {job_id for _, job_id in harness.nudges.sent} == job_ids


def test_a_sweep_removes_the_index_entries_of_expired_jobs(harness: Harness) -> None:
    gone, there = (
        job_states.ended(harness, job_states.failure()),
        job_states.ended(harness, job_states.failure()),
    )
    harness.redis.delete(keys.job(gone), keys.events(gone))

    reconcile(harness.runtime)

    assert harness.redis.zrange(keys.jobs(0), 0, -1) == [there]


def test_an_unconfirmed_attempt_of_an_expired_job_is_listed_until_its_retention_time_ends(
    harness: Harness,
) -> None:
    job_id = job_states.given_up(harness)
    harness.redis.delete(keys.job(job_id), keys.events(job_id))
    harness.clock.forward(harness.runtime.settings.retention_days * 86_400)

    reconcile(harness.runtime)
    assert harness.ledger.overview.unconfirmed(9)[0] == 1
    harness.clock.forward(0.001)
    reconcile(harness.runtime)
    assert harness.ledger.overview.unconfirmed(9)[0] == 0


def test_a_finished_sweep_is_recorded(harness: Harness) -> None:
    reconcile(harness.runtime)

    assert harness.ledger.installation.last_sweep() == harness.clock.now


def test_a_sweep_without_redis_is_not_recorded(harness: Harness) -> None:
    server = fakeredis.FakeServer()
    away = harness.on(Ledger(lambda: fakeredis.FakeRedis(server=server, decode_responses=True)))
    server.connected = False

    with pytest.raises(LedgerUnavailable):
        reconcile(away.runtime)

    server.connected = True
    assert away.ledger.installation.last_sweep() is None


def test_a_list_that_cannot_be_read_delays_no_other_list(harness: Harness) -> None:
    here = harness.on(Ledger(lambda: harness.redis, shards=3))
    jobs = {identifiers.shard_of(job_id): job_id for job_id in (here.enqueue() for _ in range(30))}
    to_archive: dict[int, str] = {}
    for _ in range(10):
        job_id = job_states.ended(here)
        to_archive[identifiers.shard_of(job_id)] = job_id
    here.nudges.sent.clear()
    here.redis.delete(keys.flows(0))
    here.redis.set(keys.flows(0), "a text")

    with capture_logs() as logs:
        reconcile(here.runtime)

    assert [(line["event"], line["shard"]) for line in logs] == [("due_jobs_unreadable", 0)]
    nudged = set(here.nudges.sent)
    assert {(Step.SUBMIT, jobs[shard]) for shard in (1, 2)} <= nudged
    assert (Step.SUBMIT, jobs[0]) not in nudged
    assert {(Step.ARCHIVE, to_archive[shard]) for shard in range(3)} <= nudged
    assert here.ledger.installation.last_sweep() == here.clock.now
