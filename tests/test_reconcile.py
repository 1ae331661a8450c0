"""The sweep: what is due is nudged, and nothing else costs anything."""

from __future__ import annotations

import fakeredis
import pytest

from orchestrator import reconcile as module
from orchestrator.jobs import Image, Outcome, Step
from orchestrator.ledger import Ledger, LedgerUnavailable, keys
from orchestrator.reconcile import reconcile
from orchestrator.submit import submit
from tests import lives
from tests.fakes import World, answer

ACCEPTED = answer(200, {"data": {"taskId": "task-1"}})


def test_every_due_job_is_nudged_for_the_step_it_waits_for(world: World) -> None:
    world.provider.answers(ACCEPTED)
    running, queued = world.enqueue(), world.enqueue()
    submit(world.runtime, running)
    world.clock.forward(30)
    world.nudges.sent.clear()

    assert reconcile(world.runtime) == 2

    assert set(world.nudges.sent) == {(Step.POLL, running), (Step.SUBMIT, queued)}


def test_a_job_that_is_not_due_is_left_alone(world: World) -> None:
    world.provider.answers(ACCEPTED)
    submit(world.runtime, world.enqueue())
    world.clock.forward(29.9)
    world.nudges.sent.clear()

    assert reconcile(world.runtime) == 0

    assert world.nudges.sent == []


def test_a_lost_nudge_costs_one_sweep(world: World) -> None:
    job_id = world.enqueue()
    world.nudges.sent.clear()  # the message was lost

    reconcile(world.runtime)

    assert world.nudges.sent == [(Step.SUBMIT, job_id)]


def test_a_sweep_changes_no_job_so_two_at_once_do_no_harm(world: World) -> None:
    job_id = world.enqueue()
    before = world.job(job_id)

    assert [reconcile(world.runtime), reconcile(world.runtime)] == [1, 1]

    assert world.job(job_id) == before
    assert world.next_look(job_id) == 0


def test_every_shard_is_swept(world: World) -> None:
    sharded = world.on(Ledger(lambda: world.redis, shards=4))
    job_ids = {sharded.enqueue() for _ in range(40)}
    sharded.nudges.sent.clear()

    assert reconcile(sharded.runtime) == 40

    assert {job_id for _, job_id in sharded.nudges.sent} == job_ids
    assert {keys.shard_of(job_id) for job_id in job_ids} == {0, 1, 2, 3}


def test_more_than_a_sweep_takes_is_left_for_the_next_one_oldest_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT", 2)
    job_ids = []
    for _ in range(3):
        job_ids.append(world.enqueue())
        world.clock.forward(1)
    world.nudges.sent.clear()

    assert reconcile(world.runtime) == 2

    assert [job_id for _, job_id in world.nudges.sent] == job_ids[:2]


def succeeded(world: World, minutes: int) -> str:
    """A job whose image's link dies then; its id."""
    dies = world.clock.now + minutes * 60_000
    return lives.ended(world, Outcome.succeeded((Image("https://e.example/0.png", dies),)))


def test_what_follows_from_an_outcome_is_nudged_until_it_is_done(world: World) -> None:
    archive = succeeded(world, 60)
    both = lives.ended(world, notify_stream="told")
    notify = lives.ended(world, lives.failure(), notify_stream="told")
    lives.ended(world, lives.failure())
    world.nudges.sent.clear()

    assert reconcile(world.runtime) == 4

    follow_ups = {(Step.ARCHIVE, archive), (Step.ARCHIVE, both)}
    follow_ups |= {(Step.NOTIFY, both), (Step.NOTIFY, notify)}
    assert set(world.nudges.sent) == follow_ups
    world.nudges.sent.clear()
    claim = world.ledger.follow_ups.claim
    assert claim(archive, Step.ARCHIVE, now=world.clock.now, lease_ms=60_000)
    assert reconcile(world.runtime) == 3
    assert set(world.nudges.sent) == follow_ups - {(Step.ARCHIVE, archive)}, "it is under way"
    world.clock.forward(60)
    assert reconcile(world.runtime) == 4, "whoever had it is gone"


def test_images_whose_links_die_soonest_are_nudged_first(world: World) -> None:
    minutes = [50, 10, 40, 30, 20]
    jobs = {minute: succeeded(world, minute) for minute in minutes}
    world.nudges.sent.clear()

    reconcile(world.runtime)

    assert world.nudges.sent == [(Step.ARCHIVE, jobs[minute]) for minute in sorted(minutes)]


def test_what_leads_to_an_outcome_is_nudged_before_what_follows_from_one(world: World) -> None:
    world.provider.answers(ACCEPTED)
    archive, queued = succeeded(world, 1), world.enqueue()
    world.nudges.sent.clear()

    reconcile(world.runtime)

    assert world.nudges.sent == [(Step.SUBMIT, queued), (Step.ARCHIVE, archive)]


def test_more_follow_ups_than_a_sweep_takes_are_left_for_the_next_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLLOW_UPS_LIMIT", 2)
    jobs = {minute: succeeded(world, minute) for minute in (30, 10, 20)}
    notify = [lives.ended(world, lives.failure(), notify_stream="told") for _ in range(3)]
    world.nudges.sent.clear()

    assert reconcile(world.runtime) == 4

    sent = [job_id for step, job_id in world.nudges.sent if step is Step.ARCHIVE]
    assert sent == [jobs[10], jobs[20]]
    assert {job_id for step, job_id in world.nudges.sent if step is Step.NOTIFY} < set(notify)


def test_the_follow_ups_of_every_shard_are_swept(world: World) -> None:
    sharded = world.on(Ledger(lambda: world.redis, shards=4))
    job_ids = {succeeded(sharded, 60) for _ in range(40)}
    world.nudges.sent.clear()

    assert reconcile(sharded.runtime) == 40

    assert {job_id for _, job_id in world.nudges.sent} == job_ids


def test_a_sweep_tidies_what_expired_jobs_left(world: World) -> None:
    gone, there = lives.ended(world, lives.failure()), lives.ended(world, lives.failure())
    world.redis.delete(keys.job(gone), keys.events(gone))

    reconcile(world.runtime)

    assert world.redis.zrange(keys.jobs(0), 0, -1) == [there]


def test_what_may_be_owed_for_an_expired_job_is_told_until_its_retention_time_is_over(
    world: World,
) -> None:
    job_id = lives.given_up(world)
    world.redis.delete(keys.job(job_id), keys.events(job_id))
    world.clock.forward(30 * 86_400)

    reconcile(world.runtime)
    assert world.ledger.overview.unconfirmed(9)[0] == 1
    world.clock.forward(0.001)
    reconcile(world.runtime)
    assert world.ledger.overview.unconfirmed(9)[0] == 0


def test_a_finished_sweep_is_recorded(world: World) -> None:
    reconcile(world.runtime)

    assert world.ledger.last_sweep() == world.clock.now


def test_a_sweep_without_redis_is_not_a_finished_one(world: World) -> None:
    server = fakeredis.FakeServer()
    away = world.on(Ledger(lambda: fakeredis.FakeRedis(server=server, decode_responses=True)))
    server.connected = False

    with pytest.raises(LedgerUnavailable):
        reconcile(away.runtime)

    server.connected = True
    assert away.ledger.last_sweep() is None
