"""One provider hangs in every call. The others do all their work meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from redis import Redis

from orchestrator.jobs.model import Status
from orchestrator.ledger import Ledger, keys
from orchestrator.providers import BUILT_IN
from tests.system.conftest import Client, eventually

#: The provider that hangs.
HANGING = "uniall"
#: The places of its lane, and those that submissions may hold.
PLACES = 8
HANGING_AT_ONCE = 6
#: More jobs than the lane has places.
HANGING_JOBS = 3 * PLACES
#: Jobs of each other provider.
OTHER_JOBS = 3
OTHERS = tuple(name for name in BUILT_IN if name != HANGING)


@contextmanager
def silent_server() -> Iterator[int]:
    """A port whose connections are accepted and never answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=HANGING_JOBS) as server:
        yield int(server.getsockname()[1])


@pytest.fixture(scope="module")
def client(own: Client) -> Iterator[Client]:
    """A worker whose calls to one provider hang."""
    stack, before = own.stack, dict(own.stack.env)
    with silent_server() as port:
        stack.env[f"{HANGING.upper()}_BASE_URL"] = f"http://127.0.0.1:{port}"
        stack.env[f"{HANGING.upper()}_THREADS"] = str(PLACES)
        stack.env["ORCHESTRATOR_READ_TIMEOUT_SECONDS"] = "300"
        stack.kill("worker")
        stack.start("worker")
        yield own
        stack.env.clear()
        stack.env.update(before)
        if "worker" in stack.running:
            stack.kill("worker")
        stack.start("worker")


def test_the_jobs_of_other_providers_succeed_while_every_job_of_one_hangs(client: Client) -> None:
    url = client.stack.env["ORCHESTRATOR_REDIS_URL"]
    ledger = Ledger.from_url(url)
    hanging = [client.enqueue(HANGING, f"hangs {n}") for n in range(HANGING_JOBS)]
    eventually(lambda: ledger.overview.counts().get(Status.SUBMITTING) == HANGING_AT_ONCE)

    with Redis.from_url(url, decode_responses=True) as redis:
        redis.delete(keys.SWEEP)
    others = [client.enqueue(name, f"works {n}") for name in OTHERS for n in range(OTHER_JOBS)]

    assert {client.outcome(job_id)["status"] for job_id in others} == {"succeeded"}
    eventually(ledger.installation.last_sweep)
    assert requests.get(f"{client.stack.web_url}/readyz", timeout=60).status_code == 200
    statuses = [client.job(job_id)["status"] for job_id in hanging]
    assert statuses.count("submitting") == HANGING_AT_ONCE, "every place for submissions hangs"
    assert statuses.count("queued") == HANGING_JOBS - HANGING_AT_ONCE


def test_a_worker_whose_threads_hang_stops_when_it_is_asked_to(client: Client) -> None:
    worker = client.stack.running.pop("worker")

    worker.terminate()

    assert worker.wait(120) == 0
    assert "steps_unfinished" in client.stack.log("worker")
