"""The sweep: what is due is nudged, and nothing else costs anything."""

from __future__ import annotations

import fakeredis
import pytest

from orchestrator import reconcile as module
from orchestrator.jobs import Step
from orchestrator.ledger import Ledger, LedgerUnavailable, keys
from orchestrator.reconcile import reconcile
from orchestrator.submit import submit
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
