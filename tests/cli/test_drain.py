"""`orchestrator drain`: it waits for all work, and ends with 0 only when nothing is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from importlib import import_module

import orjson
import pytest
from kombu.exceptions import OperationalError
from redis import Redis

from orchestrator.enqueuing import create_job
from orchestrator.jobs.model import Status
from orchestrator.ledger.admission import CircuitState
from orchestrator.messages import ENQUEUE_QUEUE, Broker
from orchestrator.operations.batches import create_batch
from tests.cli.test_access import json_of, run
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.providers import EXAMPLE_REQUESTS


@pytest.fixture
def cli(
    start: Callable[..., Harness],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    real_redis: Redis,
) -> Iterator[Harness]:
    monkeypatch.setattr(import_module("orchestrator.cli.drain"), "LOOK_SECONDS", 0.01)
    harness = start(ORCHESTRATOR_BROKER_URL=redis_url)
    yield harness
    harness.runtime.broker.close()


def queued(harness: Harness) -> str:
    return create_job(harness.runtime, EXAMPLE_REQUESTS["hiapi"], scope="tests").job.id


def left(*options: str) -> dict[str, int | None]:
    """Return what a drain that gives up at once finds."""
    result = run("drain", "--timeout", "0", "--json", *options)
    assert result.exit_code == 1, result.output
    view = orjson.loads(result.stdout)
    assert view["drained"] is False
    found: dict[str, int | None] = view["left"]
    return found


def test_an_installation_without_work_is_drained(cli: Harness) -> None:
    view = json_of("drain", "--timeout", "60")

    assert (view["drained"], view["left"], view["paused"]) == (True, {}, [])
    assert "Drained in" in run("drain").output


def test_whatever_is_left_is_named(cli: Harness, real_redis: Redis) -> None:
    queued(cli)
    job_states.unconfirmed(cli)
    job_states.ended(cli)
    real_redis.lpush(ENQUEUE_QUEUE, "a message")
    cli.ledger.waiting_messages.add("shop hiapi", "{}", now=0, due_at=0)
    assert left() == {"queued": 1, "in_flight": 1, "archives": 1, "messages": 2}

    result = run("drain", "--timeout", "0")
    assert (result.exit_code, result.stdout) == (
        1,
        "Gave up after 0 s. Left: queued: 1, in flight: 1, archives: 1, messages: 2\n",
    )


def test_a_broker_that_is_away_is_not_drained(
    cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting(*_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(Broker, "waiting", waiting)

    assert left() == {"messages": None}


def test_a_batch_with_open_jobs_is_left(cli: Harness) -> None:
    create_batch(cli.runtime, [EXAMPLE_REQUESTS["hiapi"]], scope="tests")

    assert left() == {"queued": 1, "batches": 1}
    assert json_of("drain", "--pause")["drained"], "the batch waits for a job that is not submitted"


def test_with_a_pause_queued_jobs_stay_and_what_is_in_flight_ends(cli: Harness) -> None:
    job_id = queued(cli)
    running = job_states.running(cli)
    assert left("--pause") == {"in_flight": 1}
    names = cli.runtime.settings.providers
    states = cli.ledger.admission.states(names, now=cli.clock.now)
    assert {state.circuit for state in states.values()} == {CircuitState.PAUSED}

    ends = threading.Timer(0.1, lambda: settle(cli, running))
    ends.start()
    view = json_of("drain", "--pause", "--timeout", "60")
    ends.join()

    assert (view["drained"], view["queued"], view["paused"]) == (True, 1, [])
    assert cli.job(job_id).status == Status.QUEUED


def settle(harness: Harness, job_id: str) -> None:
    task_id = job_states.task_of(job_id)
    harness.ledger.settle_attempt(job_id, 1, task_id, job_states.failure(), now=harness.clock.now)
