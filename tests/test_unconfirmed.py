"""The submit step when nobody knows whether the request arrived: nothing is paid for twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.jobs import ErrorCode, SettledBy, Status, Step
from orchestrator.submit import submit
from tests.fakes import Answer, World, answer
from tests.test_submit import ACCEPTED, ESTIMATED, GATEWAY, NO, SLOW_DOWN, again, submitted

HOUR = 3600


@pytest.fixture
def behind_nat(start: Callable[..., World]) -> World:
    return start(ORCHESTRATOR_PUBLIC_URL=None)


def failed_unconfirmed(world: World, job_id: str) -> bool:
    job = world.job(job_id)
    return (
        job.status is Status.FAILED
        and job.settled_by is SettledBy.DEADLINE
        and job.error is not None
        and job.error.code is ErrorCode.SUBMISSION_UNCONFIRMED
        and world.next_look(job_id) is None
    )


@pytest.mark.parametrize("provider", ["hiapi", "evolink"])
@pytest.mark.parametrize(
    "told",
    [None, GATEWAY, Answer(504), Answer(200, b"{}"), Answer(200, b"<html>")],
    ids=["connection dropped", "502", "504", "2xx without a task", "2xx without JSON"],
)
def test_without_a_readable_answer_the_attempt_is_unconfirmed(
    world: World, provider: str, told: Answer | None
) -> None:
    job = world.job(submitted(world, provider, told))

    assert (job.status, job.attempt.number) == (Status.UNCONFIRMED, 1)


def test_an_answer_that_breaks_off_is_none(world: World) -> None:
    headers = {"Content-Length": "999"}  # promised, and not sent

    job_id = submitted(world, "hiapi", Answer(200, b'{"data":{"taskId":"task-1"}}', headers))

    assert world.job(job_id).status is Status.UNCONFIRMED


# With an idempotency key ---------------------------------------------------------------------


def test_the_same_attempt_is_sent_again_with_the_same_key_and_body_until_it_is_answered(
    world: World,
) -> None:
    job_id = submitted(world, "hiapi", None, GATEWAY, None, ACCEPTED)
    for _ in range(3):
        assert world.job(job_id).status is Status.UNCONFIRMED
        again(world, job_id)

    job = world.job(job_id)
    assert (job.status, job.attempt.number, job.attempt.task_id) == (Status.RUNNING, 1, "task-1")
    sent = {(a.headers["idempotency-key"], a.body, a.path) for a in world.provider.asked}
    assert len(world.provider.asked) == 4
    assert len(sent) == 1
    assert next(iter(sent))[0] == f"{job_id}.1"


@pytest.mark.parametrize("no", [NO, SLOW_DOWN, answer(400, {"error_code": "INVALID_REQUEST"})])
def test_a_no_to_a_repeated_send_says_nothing_of_the_first(world: World, no: Answer) -> None:
    job_id = submitted(world, "hiapi", None, no, ACCEPTED)

    again(world, job_id)
    assert world.job(job_id).status is Status.UNCONFIRMED
    again(world, job_id)

    assert world.job(job_id).status is Status.RUNNING
    assert world.job(job_id).attempt.number == 1


def test_a_key_that_is_still_in_flight_is_waited_for_as_told(world: World) -> None:
    processing = answer(409, {"error_code": "IDEMPOTENCY_KEY_PROCESSING"}, Retry_After="4")
    job_id = submitted(world, "hiapi", None, processing, ACCEPTED)

    again(world, job_id)

    assert world.job(job_id).status is Status.UNCONFIRMED
    assert world.next_look(job_id) == 4


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (1.0, 1.5)])
def test_the_wait_between_sends_doubles_with_jitter_up_to_a_minute(
    world: World, chance: float, factor: float
) -> None:
    world.chance.number = chance
    job_id = submitted(world, "hiapi", None)
    waits = []
    for _ in range(8):
        waits.append(world.next_look(job_id))
        again(world, job_id)

    assert waits == [min(factor * 2.0**n, 60) for n in range(8)]


def test_at_the_deadline_it_gives_up_and_says_that_it_may_have_been_charged(world: World) -> None:
    job_id = submitted(world, "hiapi", None, deadline_seconds=10)
    while world.job(job_id).status is Status.UNCONFIRMED:
        again(world, job_id)

    assert failed_unconfirmed(world, job_id)
    error = world.job(job_id).error
    assert error is not None
    assert "may have been charged" in error.message


def test_nothing_is_sent_again_once_the_provider_has_forgotten_the_key(behind_nat: World) -> None:
    world = behind_nat
    job_id = submitted(world, "hiapi", None, deadline_seconds=48 * HOUR)
    world.clock.forward(24 * HOUR)

    submit(world.runtime, job_id)

    assert failed_unconfirmed(world, job_id)
    assert len(world.provider.asked) == 1


def test_a_killed_workers_attempt_is_sent_again_with_its_own_key(world: World) -> None:
    world.provider.answers(ACCEPTED)
    job_id = world.enqueue()
    world.ledger.claim(job_id, Step.SUBMIT, now=world.clock(), lease_ms=60_000)

    again(world, job_id)

    assert world.job(job_id).status is Status.RUNNING
    [asked] = world.provider.asked
    assert asked.headers["idempotency-key"] == f"{job_id}.1"


# Without one ---------------------------------------------------------------------------------


def test_evolink_is_not_asked_twice_but_waited_for_until_the_deadline(world: World) -> None:
    job_id = submitted(world, "evolink", None)
    assert (world.job(job_id).status, world.next_look(job_id)) == (Status.UNCONFIRMED, HOUR)

    world.clock.forward(HOUR - 1)
    submit(world.runtime, job_id)
    assert world.job(job_id).status is Status.UNCONFIRMED
    world.clock.forward(1)
    submit(world.runtime, job_id)

    assert failed_unconfirmed(world, job_id)
    assert len(world.provider.asked) == 1


def test_a_killed_workers_attempt_is_waited_for_and_not_sent_again(world: World) -> None:
    job_id = world.enqueue("evolink")
    world.ledger.claim(job_id, Step.SUBMIT, now=world.clock(), lease_ms=60_000)
    world.clock.forward(60)

    submit(world.runtime, job_id)

    assert world.job(job_id).status is Status.UNCONFIRMED
    assert world.next_look(job_id) == HOUR - 60
    assert world.provider.asked == []


def test_where_no_callback_can_come_it_gives_up_at_once(behind_nat: World) -> None:
    world = behind_nat
    job_id = submitted(world, "evolink", None)
    assert world.next_look(job_id) == 0

    again(world, job_id)

    assert failed_unconfirmed(world, job_id)
    assert len(world.provider.asked) == 1


# A second payment, on demand -----------------------------------------------------------------


@pytest.mark.parametrize(("provider", "told"), [("hiapi", ACCEPTED), ("evolink", ESTIMATED)])
def test_resubmit_buys_a_second_attempt_half_way_to_the_deadline(
    world: World, provider: str, told: Answer
) -> None:
    wanted: dict[str, Any] = {"on_unconfirmed": "resubmit", "deadline_seconds": 200}
    job_id = submitted(world, provider, None, **wanted)
    while world.job(job_id).status is Status.UNCONFIRMED:
        again(world, job_id)
    assert world.clock.now == world.job(job_id).created_at + 100_000

    world.provider.answers(told)
    world.provider.asked.clear()
    submit(world.runtime, job_id)

    job = world.job(job_id)
    assert (job.status, job.attempt.number) == (Status.RUNNING, 2)
    [asked] = world.provider.asked
    assert f"{job_id}.2/" in asked.body.decode()
    assert asked.headers.get("idempotency-key", f"{job_id}.2") == f"{job_id}.2"


def test_resubmit_does_not_go_beyond_the_deadline(world: World) -> None:
    job_id = submitted(world, "evolink", None, on_unconfirmed="resubmit", deadline_seconds=100)
    while not world.job(job_id).status.terminal:
        again(world, job_id)

    assert failed_unconfirmed(world, job_id)
    assert world.clock.now == world.job(job_id).created_at + 100_000


# Switched off --------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["hiapi", "evolink"])
def test_an_unconfirmed_attempt_of_a_provider_that_is_off_waits_and_fails_at_the_deadline(
    world: World, provider: str
) -> None:
    job_id = submitted(world, provider, None, deadline_seconds=100)
    off = world.provider_off()
    sent = len(world.provider.asked)

    for _ in range(4):
        if not world.job(job_id).status.terminal:
            again(off, job_id)

    assert failed_unconfirmed(world, job_id)
    assert world.clock.now == world.job(job_id).created_at + 100_000
    assert len(world.provider.asked) == sent
