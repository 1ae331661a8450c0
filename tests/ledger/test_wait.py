"""Waiting for an outcome: woken when it comes, and back in time when it does not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import Job, SettledBy, Status, Step
from orchestrator.ledger import Ledger, keys
from orchestrator.ledger.connection import ANSWER_TIMEOUT
from tests.ledger import kit
from tests.ledger.kit import FAILURE, LOOK, NOW, SUCCESS

#: Longer than any test may take. Seconds.
TEST_TIMEOUT_SECONDS = 10.0


def listening(redis: Redis, job_id: str) -> bool:
    """Whether anybody listens for the job's settlement."""
    return bool(redis.pubsub_channels(keys.settled(job_id)))


def woken(ledger: Ledger, redis: Redis, job_id: str, settle: Callable[[], object]) -> Job | None:
    """What a thread gets that waits while this one settles the job."""
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Job | None] = pool.submit(ledger.wait, job_id, TEST_TIMEOUT_SECONDS)
        kit.eventually(lambda: listening(redis, job_id))
        settle()
        return waiting.result(TEST_TIMEOUT_SECONDS / 2)


def test_a_callback_wakes_who_waits(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)

    job = woken(
        ledger,
        redis,
        job_id,
        lambda: ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW),
    )

    assert job == kit.job(ledger, job_id)
    assert job is not None
    assert job.status is Status.SUCCEEDED


def test_a_workers_outcome_wakes_who_waits(ledger: Ledger, redis: Redis) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)

    job = woken(
        ledger,
        redis,
        lease.job.id,
        lambda: ledger.settle(lease, FAILURE, SettledBy.POLL, now=NOW),
    )

    assert job is not None
    assert job.status is Status.FAILED


def test_calling_a_job_off_wakes_who_waits(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger)

    job = woken(ledger, redis, job_id, lambda: ledger.cancel(job_id, now=NOW))

    assert job is not None
    assert job.status is Status.CANCELLED


def test_all_who_wait_are_woken(crowd: Ledger, real_redis: Redis) -> None:
    def listeners() -> list[Any]:
        clients: list[Any] = real_redis.client_list(_type="pubsub")
        return clients

    job_id = kit.running(crowd)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(crowd.wait, job_id, TEST_TIMEOUT_SECONDS) for _ in range(8)]
        kit.eventually(lambda: len(listeners()) == 8)
        crowd.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)
        jobs = [one.result(TEST_TIMEOUT_SECONDS / 2) for one in waiting]

    assert jobs == [kit.job(crowd, job_id)] * 8
    kit.eventually(lambda: not listeners())


def test_a_terminal_job_is_not_waited_for(ledger: Ledger) -> None:
    job_id = kit.create(ledger)
    ledger.cancel(job_id, now=NOW)
    begun = monotonic()

    job = ledger.wait(job_id, TEST_TIMEOUT_SECONDS)

    assert job is not None
    assert job.status is Status.CANCELLED
    assert monotonic() - begun < TEST_TIMEOUT_SECONDS / 4


def test_an_unknown_job_is_not_waited_for(ledger: Ledger) -> None:
    begun = monotonic()

    assert ledger.wait(keys.new_job_id(0), TEST_TIMEOUT_SECONDS) is None
    assert monotonic() - begun < TEST_TIMEOUT_SECONDS / 4


def test_what_is_not_a_settlement_wakes_nobody(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger)
    other = kit.create(ledger)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.wait, job_id, 0.3)
        kit.eventually(lambda: listening(redis, job_id))
        begun = monotonic()
        kit.claim(ledger, job_id)
        ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=LOOK)
        ledger.cancel(other, now=NOW)
        job = waiting.result(TEST_TIMEOUT_SECONDS / 2)

    assert job is not None
    assert job.status is Status.RUNNING, "as it stands in the end"
    assert monotonic() - begun > 0.15


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_a_job_that_goes_on_is_given_as_it_stands(ledger: Ledger, seconds: float) -> None:
    job_id, begun = kit.running(ledger), monotonic()

    job = ledger.wait(job_id, seconds)

    assert job == kit.job(ledger, job_id)
    assert seconds <= monotonic() - begun < seconds + 2


def test_a_wait_may_be_longer_than_redis_may_take_to_answer(crowd: Ledger) -> None:
    job_id, begun = kit.running(crowd), monotonic()
    seconds = 2.5
    assert seconds > ANSWER_TIMEOUT

    job = crowd.wait(job_id, seconds)

    assert job == kit.job(crowd, job_id)
    assert monotonic() - begun >= seconds
