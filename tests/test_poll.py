"""The poll step: news of a task whose callback did not come, or never will."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.jobs import ErrorCode, Image, Outcome, SettledBy, Status, Step
from orchestrator.poll import OFF_SECONDS, poll
from orchestrator.polling import NOT_FOUND_TOLERANCE
from tests.fakes import API_KEY, Answer, Asked, World, answer

HANDLING = answer(200, {"code": 200, "data": {"taskId": "task-1", "status": "handling"}})
OUTPUT = [{"url": "https://cdn.example.com/0.png"}]
DONE = answer(200, {"data": {"taskId": "task-1", "status": "success", "output": OUTPUT}})
FAILED = answer(200, {"data": {"taskId": "task-1", "status": "fail", "error": {"message": "no"}}})
UNKNOWN = answer(404, {"message": "no such task"})
BROKEN = answer(500, {"code": 500, "message": "broken"})


@pytest.fixture
def behind_nat(start: Callable[..., World]) -> World:
    """Without a public URL polling is all there is."""
    return start(ORCHESTRATOR_PUBLIC_URL=None)


def running(world: World, *answers: Answer | None, **fields: Any) -> str:
    """A job whose provider task is known, due now."""
    world.provider.answers(*(answers or (HANDLING,)))
    job_id, now = world.enqueue(**fields), world.clock()
    world.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
    world.ledger.accepted(job_id, 1, "task-1", now=now, next_look=now)
    return job_id


def polled(world: World, *answers: Answer | None, **fields: Any) -> str:
    """A running job that was polled once."""
    job_id = running(world, *answers, **fields)
    poll(world.runtime, job_id)
    return job_id


def again(world: World, job_id: str) -> None:
    """Poll once more, at the moment the agenda says."""
    wait = world.next_look(job_id)
    assert wait is not None
    world.clock.forward(wait)
    poll(world.runtime, job_id)


# News ----------------------------------------------------------------------------------------


def test_a_poll_asks_for_the_task_with_our_key(world: World) -> None:
    polled(world)

    [asked] = world.provider.asked
    assert (asked.method, asked.path, asked.body) == ("GET", "/v1/tasks/task-1", b"")
    assert asked.headers["authorization"] == f"Bearer {API_KEY}"


def test_a_success_settles_the_job_with_its_images(world: World) -> None:
    job_id = polled(world, DONE)

    job = world.job(job_id)
    assert (job.status, job.settled_by) == (Status.SUCCEEDED, SettledBy.POLL)
    assert [image.source_url for image in job.images] == ["https://cdn.example.com/0.png"]
    assert world.next_look(job_id) is None


def test_a_failure_settles_the_job_with_the_providers_words(world: World) -> None:
    job = world.job(polled(world, FAILED))

    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.POLL)
    assert job.error is not None
    assert job.error.message == "no"


def test_a_task_on_its_way_is_looked_at_again(world: World) -> None:
    job_id = polled(world, HANDLING)

    job = world.job(job_id)
    assert (job.status, job.tries) == (Status.RUNNING, 1)
    assert world.next_look(job_id) == 3
    assert world.ledger.events(job_id)[-1].detail == {"state": "handling"}


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (0.5, 1.25), (1.0, 1.5)])
def test_the_wait_between_polls_doubles_with_jitter_up_to_the_ceiling(
    world: World, chance: float, factor: float
) -> None:
    world.chance.number = chance
    job_id = polled(world, HANDLING)
    waits = []
    for _ in range(6):
        waits.append(world.next_look(job_id))
        again(world, job_id)

    assert waits == [min(factor * 3 * 2.0**n, 30) for n in range(6)]


def test_a_providers_own_intervals_can_be_set(start: Callable[..., World]) -> None:
    world = start(HIAPI_POLL_SECONDS="8", HIAPI_MAX_POLL_SECONDS="10")
    job_id = polled(world, HANDLING)
    first = world.next_look(job_id)

    again(world, job_id)

    assert (first, world.next_look(job_id)) == (8, 10)


def test_a_job_that_is_not_due_or_anothers_is_not_polled(world: World) -> None:
    job_id = polled(world, HANDLING)
    leased, queued = running(world, HANDLING), world.enqueue()
    world.ledger.claim(leased, Step.POLL, now=world.clock(), lease_ms=60_000)
    world.provider.asked.clear()

    for each in (job_id, leased, queued, "job_" + "0" * 28):
        poll(world.runtime, each)

    assert world.provider.asked == []


def test_a_killed_workers_poll_is_made_again(world: World) -> None:
    job_id = running(world, DONE)
    world.ledger.claim(job_id, Step.POLL, now=world.clock(), lease_ms=60_000)

    again(world, job_id)

    assert world.job(job_id).status is Status.SUCCEEDED


def test_a_callback_that_comes_while_the_provider_is_asked_wins(world: World) -> None:
    job_id = running(world)
    theirs = Outcome.succeeded((Image("https://e.example/callback.png"),))

    def overtaken(_: Asked) -> Answer:
        world.ledger.settle_attempt(job_id, 1, "task-1", theirs, now=world.clock())
        return DONE

    world.provider.handler = overtaken
    poll(world.runtime, job_id)

    job = world.job(job_id)
    assert job.settled_by is SettledBy.CALLBACK
    assert job.images == theirs.images


# Trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [BROKEN, Answer(502, b"<html>"), Answer(200, b"[]"), None, answer(401, {"message": "who?"})],
    ids=["500", "502", "2xx without a task", "connection dropped", "401"],
)
def test_a_query_that_tells_nothing_is_made_again(world: World, trouble: Answer | None) -> None:
    job_id = polled(world, trouble, DONE)
    assert (world.job(job_id).status, world.next_look(job_id)) == (Status.RUNNING, 3)

    again(world, job_id)

    assert world.job(job_id).status is Status.SUCCEEDED


def test_a_provider_that_cannot_be_reached_is_asked_again(start: Callable[..., World]) -> None:
    world = start(HIAPI_BASE_URL="http://127.0.0.1:1")

    job_id = polled(world)

    assert (world.job(job_id).status, world.next_look(job_id)) == (Status.RUNNING, 3)


def test_the_providers_retry_after_is_honoured(world: World) -> None:
    told = answer(429, {"message": "slow down"}, Retry_After="21")

    assert world.next_look(polled(world, told)) == 21


def test_another_task_than_the_one_asked_for_is_not_believed(world: World) -> None:
    other = answer(200, {"data": {"taskId": "task-2", "status": "success", "output": OUTPUT}})

    job_id = polled(world, other)

    job = world.job(job_id)
    assert (job.status, job.attempt.task_id) == (Status.RUNNING, "task-1")
    assert "told of task-2" in world.ledger.events(job_id)[-1].detail["state"]


# Not found -----------------------------------------------------------------------------------


def test_not_found_is_tolerated_for_a_while_and_then_final(behind_nat: World) -> None:
    world = behind_nat
    job_id = polled(world, UNKNOWN)
    while not world.job(job_id).status.terminal:
        before = world.clock.now
        again(world, job_id)

    job = world.job(job_id)
    assert before <= job.created_at + NOT_FOUND_TOLERANCE * 1000 < world.clock.now
    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.POLL)
    assert job.error is not None
    assert job.error.code is ErrorCode.NOT_FOUND


def test_not_found_is_not_final_at_the_edge_of_the_tolerance(behind_nat: World) -> None:
    job_id = running(behind_nat, UNKNOWN)
    behind_nat.clock.forward(NOT_FOUND_TOLERANCE)

    poll(behind_nat.runtime, job_id)

    assert behind_nat.job(job_id).status is Status.RUNNING


def test_not_found_is_never_final_while_a_callback_may_come(world: World) -> None:
    job_id = running(world, UNKNOWN)
    world.clock.forward(10 * NOT_FOUND_TOLERANCE)

    poll(world.runtime, job_id)

    assert world.job(job_id).status is Status.RUNNING


# The deadline --------------------------------------------------------------------------------


def test_no_wait_goes_beyond_the_deadline(world: World) -> None:
    told = answer(429, {"message": "slow down"}, Retry_After="3000")

    assert world.next_look(polled(world, told, deadline_seconds=100)) == 100


@pytest.mark.parametrize(
    ("last", "news"),
    [(HANDLING, "handling"), (UNKNOWN, "not found"), (BROKEN, "provider_unavailable: broken")],
)
def test_at_the_deadline_a_job_without_an_outcome_fails_with_the_last_news(
    world: World, last: Answer, news: str
) -> None:
    job_id = running(world, last, deadline_seconds=100)
    world.clock.forward(100)

    poll(world.runtime, job_id)

    job = world.job(job_id)
    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.DEADLINE)
    assert job.error is not None
    assert job.error.code is ErrorCode.DEADLINE_EXCEEDED
    assert job.error.message == f"no outcome by the deadline; {news}"


def test_a_job_past_its_deadline_gets_one_last_poll_that_may_save_it(world: World) -> None:
    job_id = running(world, DONE, deadline_seconds=100)
    world.clock.forward(5000)

    poll(world.runtime, job_id)

    assert (world.job(job_id).status, len(world.provider.asked)) == (Status.SUCCEEDED, 1)


# Switched off --------------------------------------------------------------------------------


def test_a_provider_that_is_switched_off_is_waited_for_until_the_deadline(world: World) -> None:
    job_id = running(world, DONE, deadline_seconds=90)
    off = world.provider_off()

    poll(off.runtime, job_id)
    assert (world.job(job_id).status, world.next_look(job_id)) == (Status.RUNNING, OFF_SECONDS)
    again(off, job_id)
    assert world.next_look(job_id) == 30
    again(off, job_id)

    job = world.job(job_id)
    assert job.error is not None
    assert job.error.code is ErrorCode.DEADLINE_EXCEEDED
    assert "hiapi is switched off" in job.error.message
    assert world.provider.asked == []
