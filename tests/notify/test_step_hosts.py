"""The notify step at hosts that are slow, paused, or probed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from redis import Redis

from orchestrator.jobs import FollowUpStatus
from orchestrator.notify import step
from orchestrator.notify.hosts import BUSY, PAUSED, SLOTS
from orchestrator.notify.schedule import PATIENCE, SCHEDULE
from orchestrator.notify.step import notify
from tests import lives
from tests.fakes import NOON, Answer, Asked, FakeProvider, World, serving
from tests.notify.kit import (
    VARIABLES,
    Killed,
    again,
    ended,
    host,
    ids,
    killed,
    once,
    pause,
    told,
    wait,
)

PENDING, DONE, DEAD = FollowUpStatus.PENDING, FollowUpStatus.DONE, FollowUpStatus.DEAD


def nested(world: World, jobs: list[str]) -> Callable[[Asked], Answer]:
    """Tells of the next job before it answers: all of them are under way at once."""
    left = list(jobs)

    def handler(_: Asked) -> Answer:
        if left:
            notify(world.runtime, left.pop(0))
        return Answer(200)

    return handler


def test_only_so_many_are_under_way_to_one_host(world: World, receiver: FakeProvider) -> None:
    jobs = [ended(world, receiver) for _ in range(SLOTS + 2)]
    receiver.handler = nested(world, jobs[1:])
    world.chance.number = 0.5

    notify(world.runtime, jobs[0])

    assert ids(receiver) == [f"msg_{job_id}" for job_id in jobs[:SLOTS]]
    put_off = told(world, jobs[SLOTS])
    assert (put_off.status, put_off.tries, put_off.tried_at) == (PENDING, 0, None)
    assert wait(world, jobs[SLOTS]) == sum(BUSY) / 2
    assert again(world, jobs[SLOTS]).status is DONE


def test_a_full_host_does_not_keep_another_one_waiting(
    world: World, receiver: FakeProvider
) -> None:
    with serving(FakeProvider(lambda _: Answer(200))) as other:
        jobs = [ended(world, receiver) for _ in range(SLOTS)] + [ended(world, other)]
        receiver.handler = nested(world, jobs[1:])
        notify(world.runtime, jobs[0])

        assert told(world, jobs[-1]).status is DONE
        assert ids(other) == [f"msg_{jobs[-1]}"]


def test_slots_are_given_back_whatever_becomes_of_the_call(
    world: World, receiver: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "message", killed)
    for _ in range(SLOTS):
        with pytest.raises(Killed):
            notify(world.runtime, ended(world, receiver))
    monkeypatch.undo()

    for answer in (None, Answer(500), Answer(200), Answer(410)):
        receiver.answers(answer)
        for _ in range(SLOTS):
            assert once(world, ended(world, receiver)).tries == 1


def test_a_paused_host_is_left_in_peace_and_its_jobs_are_kept(
    world: World, receiver: FakeProvider
) -> None:
    job_id = ended(world, receiver)
    pause(world, host(receiver))
    world.chance.number = 0.5

    now = once(world, job_id)

    assert receiver.asked == []
    assert (now.status, now.tries, now.tried_at, now.error) == (PENDING, 0, None, None)
    assert wait(world, job_id) == sum(PAUSED) / 2 * 60


def test_a_probe_that_is_answered_brings_the_host_back(
    world: World, receiver: FakeProvider
) -> None:
    job_id, other = ended(world, receiver), ended(world, receiver)
    pause(world, host(receiver))
    once(world, job_id)

    with structlog.testing.capture_logs() as logs:
        assert again(world, job_id).status is DONE

    assert [line["host"] for line in logs if line["event"] == "host_resumed"] == [host(receiver)]
    assert world.ledger.hosts.failing() == {}
    assert once(world, other).status is DONE


def test_a_job_whose_host_was_paused_for_days_is_given_up_and_can_be_told_later(
    world: World, receiver: FakeProvider
) -> None:
    job_id = ended(world, receiver)
    pause(world, host(receiver))
    world.clock.forward(PATIENCE)
    pause(world, host(receiver))
    assert once(world, job_id).status is PENDING
    world.clock.forward(1)
    pause(world, host(receiver))

    now = again(world, job_id)

    assert receiver.asked == []
    assert (now.status, now.tries, now.error) == (DEAD, 0, "its host was paused or busy for days")
    assert world.ledger.follow_ups.dead(10)[0] == 1


def test_what_was_tried_before_the_pause_counts_when_it_is_given_up(
    world: World, receiver: FakeProvider
) -> None:
    receiver.answers(Answer(500))
    job_id = ended(world, receiver)
    once(world, job_id)
    world.clock.forward(PATIENCE)
    pause(world, host(receiver))
    assert once(world, job_id).status is PENDING
    world.clock.forward(1)
    pause(world, host(receiver))

    now = again(world, job_id)

    assert (now.status, now.tries) == (DEAD, 1)
    assert len(receiver.asked) == 1


def test_the_last_try_is_made_although_its_host_is_busy_when_it_comes(
    world: World, receiver: FakeProvider
) -> None:
    world.chance.number = 1.0
    receiver.answers(*[Answer(400)] * 9, Answer(200))
    job_id = ended(world, receiver)
    while told(world, job_id).tries < len(SCHEDULE) - 1:
        again(world, job_id)
    world.clock.forward(wait(world, job_id) or 0)
    assert world.clock.now - NOON > PATIENCE * 1000
    turns, hosts = world.runtime.turns, world.ledger.hosts
    for _ in range(SLOTS):
        assert turns.take(hosts, host(receiver), world.clock.now, world.chance) is None

    assert once(world, job_id).status is PENDING
    turns.give_back(hosts, host(receiver), world.clock.now, works=True)
    now = again(world, job_id)

    assert (now.status, now.tries) == (DONE, len(SCHEDULE))


def test_one_that_is_told_again_has_all_the_patience_anew(
    world: World, receiver: FakeProvider
) -> None:
    job_id = ended(world, receiver)
    once(world, job_id)
    world.clock.forward(PATIENCE * 2)
    world.ledger.follow_ups.notify_again(job_id, now=world.clock.now)
    pause(world, host(receiver))

    assert once(world, job_id).status is PENDING


def test_a_failure_is_noted_at_its_own_time(world: World, receiver: FakeProvider) -> None:
    def slow(_: Asked) -> Answer:
        world.clock.forward(12)
        return Answer(504)

    receiver.handler = slow

    now = once(world, ended(world, receiver))

    assert world.ledger.hosts.failing()[host(receiver)].since == NOON + 12_000
    assert (now.tried_at, now.next_look) == (NOON + 12_000, NOON + 17_000)


def test_tries_that_were_made_are_kept_while_the_host_is_paused(
    world: World, receiver: FakeProvider
) -> None:
    receiver.answers(Answer(500), Answer(200))
    job_id = ended(world, receiver)
    once(world, job_id)
    pause(world, host(receiver))

    now = again(world, job_id)

    assert (now.tries, now.error) == (1, "it answered 500")
    world.ledger.hosts.forget(host(receiver))
    assert again(world, job_id).tries == 2


def test_what_goes_to_a_task_or_a_stream_asks_no_host(
    start: Callable[..., World], redis_url: str, real_redis: Redis
) -> None:
    world = start(**VARIABLES, ORCHESTRATOR_BROKER_URL=redis_url)
    ways: list[dict[str, Any]] = [{"notify_task": "shop.told"}, {"notify_stream": "shop.told"}]
    for way in ways:
        job_id = lives.ended(world, **way)
        pause(world, "shop.told")

        assert once(world, job_id).status is DONE
