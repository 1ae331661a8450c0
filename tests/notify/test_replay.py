"""Telling callers again: one job's, or all that were given up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import structlog

from orchestrator.jobs import FollowUpStatus, Step
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.notify.replay import NothingToTell, dead, tell_again
from orchestrator.notify.step import notify
from tests import lives
from tests.fakes import NOON, Answer, FakeProvider, World
from tests.notify.kit import again, ended, host, once, pause, redis_holds, told, url, wait

PENDING, DONE, DEAD = FollowUpStatus.PENDING, FollowUpStatus.DONE, FollowUpStatus.DEAD


def given_up(world: World, receiver: FakeProvider) -> str:
    """A job whose caller could not be told; its id. The clock stands where it was."""
    began, job_id = world.clock.now, ended(world, receiver)
    answers, receiver.handler = receiver.handler, lambda _: Answer(400)
    while wait(world, job_id) is not None:
        notify(world.runtime, job_id)
        world.clock.forward(wait(world, job_id) or 0)
    assert told(world, job_id).status is DEAD
    receiver.handler = answers
    receiver.asked.clear()
    world.clock.now = began
    return job_id


# One -----------------------------------------------------------------------------------------


def test_a_dead_one_is_told_again_with_the_same_id_from_the_first_try_on(
    world: World, receiver: FakeProvider
) -> None:
    job_id = given_up(world, receiver)
    world.clock.forward(7 * 86_400)
    world.nudges.sent.clear()

    tell_again(world.runtime, world.job(job_id))

    assert world.nudges.sent == [(Step.NOTIFY, job_id)]
    now = told(world, job_id)
    assert (now.status, now.tries, now.since) == (PENDING, 0, world.clock.now)
    assert dead(world.runtime) == (0, [])
    assert wait(world, job_id) == 0
    receiver.answers(Answer(500), Answer(200))
    assert again(world, job_id).tries == 1
    assert wait(world, job_id) == 5
    assert again(world, job_id).status is DONE
    assert {asked.headers["webhook-id"] for asked in receiver.asked} == {f"msg_{job_id}"}


@pytest.mark.parametrize("status", [200, 410])
def test_one_that_was_done_or_gone_is_told_again_too(
    world: World, receiver: FakeProvider, status: int
) -> None:
    receiver.answers(Answer(status), Answer(200))
    job_id = ended(world, receiver)
    once(world, job_id)
    world.clock.forward(60)

    tell_again(world.runtime, world.job(job_id))

    assert once(world, job_id).status is DONE
    first, second = receiver.asked
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert second.headers["webhook-timestamp"] == str(NOON // 1000 + 60)


def test_one_that_waits_for_its_next_try_is_told_at_once(
    world: World, receiver: FakeProvider
) -> None:
    receiver.answers(Answer(500), Answer(200))
    job_id = ended(world, receiver)
    once(world, job_id)

    tell_again(world.runtime, world.job(job_id))

    assert once(world, job_id).status is DONE


def test_a_paused_host_is_asked_again_at_once(world: World, receiver: FakeProvider) -> None:
    job_id, other = ended(world, receiver), ended(world, receiver)
    pause(world, host(receiver))
    pause(world, "other.example.com")
    assert once(world, other).status is PENDING

    tell_again(world.runtime, world.job(job_id))

    assert list(world.ledger.hosts.failing()) == ["other.example.com"]
    world.clock.forward(1)
    assert once(world, job_id).status is DONE


@pytest.mark.parametrize("way", ["notify_task", "notify_stream"])
def test_a_host_that_has_the_name_of_a_task_or_stream_is_left_alone(world: World, way: str) -> None:
    named: dict[str, Any] = {way: "shop.example.com"}
    job_id = lives.ended(world, **named)
    pause(world, "shop.example.com")

    tell_again(world.runtime, world.job(job_id))

    assert list(world.ledger.hosts.failing()) == ["shop.example.com"]


def test_it_is_logged_with_the_host_only(world: World, receiver: FakeProvider) -> None:
    job_id = ended(world, receiver)

    with structlog.testing.capture_logs() as logs:
        tell_again(world.runtime, world.job(job_id))

    [line] = logs
    assert (line["event"], line["job"], line["to"]) == ("notify_again", job_id, host(receiver))
    assert redis_holds(world, "token") == []


# Nothing to tell -----------------------------------------------------------------------------


def test_a_job_without_an_outcome_cannot_be_told(world: World, receiver: FakeProvider) -> None:
    for job_id in (
        world.enqueue(notify_url=url(receiver)),
        lives.running(world, notify_url=url(receiver)),
        lives.running(world),
    ):
        job = world.job(job_id)
        with pytest.raises(NothingToTell, match=f"it is {job.status}: its caller is told once"):
            tell_again(world.runtime, job)
        assert "notify_again" not in world.events(job_id)


def test_a_job_that_names_nobody_cannot_be_told(world: World) -> None:
    job = world.job(lives.ended(world))

    with pytest.raises(NothingToTell, match="names no notify_url, notify_task or notify_stream"):
        tell_again(world.runtime, job)

    assert (Step.NOTIFY, job.id) not in world.nudges.sent


@pytest.mark.parametrize("job_id", ["job_" + "0" * 28, "nonsense"])
def test_a_job_that_is_gone_cannot_be_told(world: World, job_id: str) -> None:
    job = replace(world.job(lives.ended(world, notify_stream="shop")), id=job_id)

    with pytest.raises(NothingToTell, match="it is gone"):
        tell_again(world.runtime, job)


def test_nothing_is_begun_while_the_ledger_is_away(world: World, away: Ledger) -> None:
    job = world.job(lives.ended(world, notify_stream="shop"))
    world.nudges.sent.clear()

    with pytest.raises(LedgerUnavailable):
        tell_again(world.on(away).runtime, job)

    assert world.nudges.sent == []


# Those that were given up --------------------------------------------------------------------


def test_the_dead_are_listed_oldest_first_and_counted(world: World, receiver: FakeProvider) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(given_up(world, receiver))
        world.clock.forward(3600)
    lives.ended(world, notify_stream="shop")

    number, found = dead(world.runtime)

    assert (number, [job.id for job in found]) == (3, jobs)
    assert dead(world.runtime, limit=2)[0] == 3
    assert [job.id for job in dead(world.runtime, limit=2)[1]] == jobs[:2]


def test_since_leaves_the_older_ones_out(world: World, receiver: FakeProvider) -> None:
    given_up(world, receiver)
    world.clock.forward(3600)
    second = given_up(world, receiver)
    tried = told(world, second).tried_at
    assert tried is not None

    assert [job.id for job in dead(world.runtime, since=tried)[1]] == [second]
    assert dead(world.runtime, since=tried + 1) == (0, [])
    assert dead(world.runtime, since=tried - 3600_000)[0] == 2


def test_nobody_is_dead_at_first(world: World) -> None:
    assert dead(world.runtime) == (0, [])
