"""Requests with `?wait=` at one real web process: no thread for each, and callbacks unhurt."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.jobs.model import ErrorCode, JobError, Outcome
from orchestrator.jsonio import parse
from orchestrator.ledger import Ledger
from tests.support.fork_server import ForkedStack
from tests.system.conftest import ONE_WEB_PROCESS, WAIT_SECONDS, eventually
from tests.system.rack import Rack, settings

WAITERS = 500
FAILED = Outcome.failed(JobError(ErrorCode.INVALID_REQUEST, "no", retryable=False))
#: Callbacks that are sent while all wait.
CALLBACKS = 50


@pytest.fixture(scope="module")
def one_process() -> Iterator[Stack]:
    """A stack with one web process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with ForkedStack(processes=(), settings=ONE_WEB_PROCESS) as stack:
        stack.start("web")
        stack.wait_for("web", f"{stack.web_url}/healthz")
        yield stack
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def rack(one_process: Stack, monkeypatch: pytest.MonkeyPatch) -> Rack:
    return Rack(one_process, settings(one_process.env, monkeypatch))


class Waiter:
    """A connection on which a job was asked for with `?wait=60`."""

    def __init__(self, rack: Rack, job_id: str) -> None:
        self.job_id = job_id
        self._port = rack.port
        self._request = (
            f"GET /v1/jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer {rack.stack.api_key}\r\n\r\n"
        ).encode()

    async def begin(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._request)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def status(self) -> str:
        """The status of the job that is the answer."""
        head, _, body = (await self._reader.read()).partition(b"\r\n\r\n")
        await self.close()
        assert head.startswith(b"HTTP/1.1 200"), head
        document = parse(body)
        assert document["id"] == self.job_id
        return str(document["status"])


def listened_to(rack: Rack) -> int:
    """The jobs whose outcome the web process listens for."""
    with Redis.from_url(rack.stack.env["ORCHESTRATOR_REDIS_URL"]) as redis:
        channels: list[bytes] = redis.pubsub_channels()
        return len(channels)


def subscriptions(rack: Rack) -> int:
    """The connections to Redis that listen."""
    with Redis.from_url(rack.stack.env["ORCHESTRATOR_REDIS_URL"]) as redis:
        return len(redis.client_list(_type="pubsub"))


def threads(rack: Rack) -> int:
    return max(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in rack.processes())


async def begun(rack: Rack, jobs: list[str]) -> list[Waiter]:
    """Waiters, when all of them are held."""
    waiters = [Waiter(rack, job_id) for job_id in jobs]
    for waiter in waiters:
        await waiter.begin()
    wanted = len(set(jobs))
    await asyncio.to_thread(eventually, lambda: listened_to(rack) == wanted)
    return waiters


def test_500_wait_and_callbacks_are_taken_meanwhile(rack: Rack) -> None:
    ledger = Ledger.from_url(rack.stack.env["ORCHESTRATOR_REDIS_URL"])
    jobs = [rack.running(f"task-{number}") for number in range(WAITERS)]
    others = [rack.running(f"task-other-{number}") for number in range(CALLBACKS)]

    async def play() -> list[str]:
        waiters = await begun(rack, jobs)
        for number, job_id in enumerate(others):
            assert await asyncio.to_thread(rack.settle, job_id, f"task-other-{number}") == 200
        assert listened_to(rack) == WAITERS, "all wait still"
        assert threads(rack) < 60
        assert subscriptions(rack) == 1
        for number, job_id in enumerate(jobs):
            ledger.settle_attempt(job_id, 1, f"task-{number}", FAILED, now=now_ms())
        return await asyncio.gather(*(waiter.status() for waiter in waiters))

    assert asyncio.run(play()) == ["failed"] * WAITERS
    eventually(lambda: listened_to(rack) == 0)


def test_who_goes_away_frees_the_place(rack: Rack) -> None:
    async def play() -> None:
        [waiter] = await begun(rack, [rack.running()])
        await waiter.close()

    asyncio.run(play())
    eventually(lambda: listened_to(rack) == 0)


def test_a_process_that_is_stopped_answers_all_who_wait(one_process: Stack, rack: Rack) -> None:
    async def play() -> list[str]:
        waiters = await begun(rack, [rack.running(f"stop-{n}") for n in range(3)])
        one_process.running["web"].terminate()
        return await asyncio.gather(*(waiter.status() for waiter in waiters))

    assert asyncio.run(play()) == ["running"] * 3
    assert one_process.running.pop("web").wait(WAIT_SECONDS) == 0
