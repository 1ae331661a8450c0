"""One provider hangs in every call. The others do all their work meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from redis import Redis

from orchestrator.cli.stack import Stack
from orchestrator.jobs.model import Status
from orchestrator.ledger import Ledger, keys
from orchestrator.providers import BUILT_IN
from orchestrator.settings.provider_settings import DEFAULT_THREADS
from tests.system.conftest import TIMES, Client, eventually

#: More jobs than a lane has threads and places.
HANGING_JOBS = 3 * DEFAULT_THREADS
#: Jobs of each other provider.
OTHER_JOBS = 3
OTHERS = tuple(name for name in BUILT_IN if name != "hiapi")


@contextmanager
def silent_server() -> Iterator[int]:
    """A port whose connections are accepted and never answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=HANGING_JOBS) as server:
        yield int(server.getsockname()[1])


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with silent_server() as port:
        settings = {
            **TIMES,
            "HIAPI_BASE_URL": f"http://127.0.0.1:{port}",
            "ORCHESTRATOR_READ_TIMEOUT_SECONDS": "300",
            "ORCHESTRATOR_DRAIN_SECONDS": "0",
        }
        with Stack(task_seconds=0.2, settings=settings) as stack:
            yield Client(stack)


def test_the_jobs_of_other_providers_succeed_while_every_job_of_one_hangs(client: Client) -> None:
    url = client.stack.env["ORCHESTRATOR_REDIS_URL"]
    ledger = Ledger.from_url(url)
    hanging = [client.enqueue("hiapi", f"hangs {n}") for n in range(HANGING_JOBS)]
    eventually(lambda: ledger.overview.counts().get(Status.SUBMITTING) == DEFAULT_THREADS)

    with Redis.from_url(url, decode_responses=True) as redis:
        redis.delete(keys.SWEEP)
    others = [client.enqueue(name, f"works {n}") for name in OTHERS for n in range(OTHER_JOBS)]

    assert {client.outcome(job_id)["status"] for job_id in others} == {"succeeded"}
    eventually(ledger.installation.last_sweep)
    assert requests.get(f"{client.stack.web_url}/readyz", timeout=60).status_code == 200
    statuses = [client.job(job_id)["status"] for job_id in hanging]
    assert statuses.count("submitting") == DEFAULT_THREADS, "every thread of the provider hangs"
    assert statuses.count("queued") == HANGING_JOBS - DEFAULT_THREADS


def test_a_worker_whose_threads_hang_stops_when_it_is_asked_to(client: Client) -> None:
    worker = client.stack.running["worker"]

    worker.terminate()

    assert worker.wait(120) == 0
    assert "steps_unfinished" in client.stack.log("worker")
