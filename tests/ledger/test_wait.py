"""Waiting for an outcome: a settlement ends the wait, and otherwise the timeout does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import Job, SettledBy, Status, Step
from orchestrator.ledger import Ledger, identifiers, keys
from orchestrator.ledger.connection import ANSWER_TIMEOUT
from tests.ledger import kit
from tests.ledger.kit import FAILURE, NEXT_DUE, NOW, SUCCESS, WAIT_SECONDS

#: A timeout that no test may reach. Seconds.
LONG_TIMEOUT = WAIT_SECONDS + 30


def has_listener(redis: Redis, job_id: str) -> bool:
    """Return True if a client listens for the settlement of a job."""
    return bool(redis.pubsub_channels(keys.settled(job_id)))


def waited(
    ledger: Ledger, redis: Redis, job_id: str, settle: Callable[[], object] | None = None
) -> Job | None:
    """Return the result of a wait that does not reach its timeout. Settle the job during it."""
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Job | None] = pool.submit(ledger.outcomes.wait, job_id, LONG_TIMEOUT)
        if settle:
            kit.eventually(lambda: has_listener(redis, job_id))
            settle()
        return waiting.result(WAIT_SECONDS)


def status_of(job: Job | None) -> Status | None:
    return job.status if job else None


# A settlement ---------------------------------------------------------------------------------


@pytest.mark.one_server
def test_a_callback_ends_the_wait(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)

    def settle() -> None:
        ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)

    job = waited(ledger, redis, job_id, settle)

    assert status_of(job) is Status.SUCCEEDED
    assert job == kit.job(ledger, job_id)


@pytest.mark.one_server
def test_the_outcome_of_a_worker_ends_the_wait(ledger: Ledger, redis: Redis) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)

    def settle() -> None:
        ledger.settle(lease, FAILURE, SettledBy.POLL, now=NOW)

    assert status_of(waited(ledger, redis, lease.job.id, settle)) is Status.FAILED


@pytest.mark.one_server
def test_a_cancellation_ends_the_wait(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger)

    job = waited(ledger, redis, job_id, lambda: ledger.cancel(job_id, now=NOW))

    assert status_of(job) is Status.CANCELLED


@pytest.mark.one_server
def test_a_settlement_ends_every_wait(shared_ledger: Ledger, real_redis: Redis) -> None:
    def listeners() -> list[Any]:
        clients: list[Any] = real_redis.client_list(_type="pubsub")
        return clients

    job_id = kit.running(shared_ledger)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(shared_ledger.outcomes.wait, job_id, LONG_TIMEOUT) for _ in range(8)]
        kit.eventually(lambda: len(listeners()) == 8)
        shared_ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)
        jobs = [one.result(WAIT_SECONDS) for one in waiting]

    assert jobs == [kit.job(shared_ledger, job_id)] * 8
    kit.eventually(lambda: not listeners())


@pytest.mark.one_server
def test_only_the_settlement_of_the_job_is_announced_to_the_wait(
    ledger: Ledger, redis: Redis
) -> None:
    job_id, other = kit.create(ledger), kit.create(ledger)

    def live() -> None:
        kit.claim(ledger, job_id)
        ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NEXT_DUE)
        ledger.cancel(other, now=NOW)
        ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)

    with redis.pubsub() as listener:
        listener.subscribe(keys.settled(job_id))
        job = waited(ledger, redis, job_id, live)
        messages = kit.received(redis, listener, keys.settled(job_id))

    assert status_of(job) is Status.SUCCEEDED
    assert [message["data"] for message in messages] == [Status.SUCCEEDED]


# No settlement --------------------------------------------------------------------------------


def test_the_wait_for_a_terminal_job_ends_at_once(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger)
    ledger.cancel(job_id, now=NOW)

    assert status_of(waited(ledger, redis, job_id)) is Status.CANCELLED


def test_the_wait_for_an_unknown_job_ends_at_once(ledger: Ledger, redis: Redis) -> None:
    assert waited(ledger, redis, identifiers.new_job_id(0, NOW)) is None


@pytest.mark.parametrize("seconds", [0.0, 0.1, ANSWER_TIMEOUT + 0.5])
def test_the_timeout_ends_the_wait_with_the_open_job(shared_ledger: Ledger, seconds: float) -> None:
    """The last timeout is longer than the time that Redis may take to answer."""
    job_id, start = kit.running(shared_ledger), monotonic()

    job = shared_ledger.outcomes.wait(job_id, seconds)

    assert job == kit.job(shared_ledger, job_id)
    assert monotonic() - start >= seconds
