"""The product as real processes, started once and shared by the test files that do not break it.

tests/support/scheduling.py names the files that share the processes of a fixture. The processes
stop after the last test of this folder: five idle processes take 2 % of a core.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from redis import Redis, RedisError

from orchestrator.callbacks.spool import Spool
from orchestrator.cli import main
from orchestrator.cli.embedded_redis import EmbeddedRedis, embedded_redis
from orchestrator.cli.stack import Stack
from orchestrator.providers import BUILT_IN
from orchestrator.runtime import default_runtime
from tests.support.fork_server import ForkedStack
from tests.support.providers import EXAMPLE_MODELS, POLLED
from tests.support.redis_servers import documented_rights

#: A wait that is this long has failed. It is long, because other work may use both cores. Seconds.
WAIT_SECONDS = 120.0
#: The password of the processes of `stack` in Redis.
REDIS_PASSWORD = "password-of-the-installation"
#: The right to use the queues of callers, which docs/redis.md tells to add.
CALLERS_QUEUES = "~shop-*"
#: `web` with one process: it starts with half of the work.
ONE_WEB_PROCESS = {"WEB_CONCURRENCY": "1"}
#: Short times, so that the waits are short. Seconds.
TIMES = {
    "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": "1",
    "ORCHESTRATOR_THIN_SUCCESS_SECONDS": "3",
    "ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS": "2",
    "ORCHESTRATOR_READ_TIMEOUT_SECONDS": "7",
}


#: HiAPI reports no cost. The price is that of docs/tutorials/customers.md.
PRICES = '{"unit": "USD", "prices": {"*": 0.04}}'
#: Tenants of the shared stack with their keys.
TENANTS = {name: f"key-of-the-{name}" for name in ("atelier", "shop", "studio")}


@dataclass(frozen=True)
class Client:
    """A user of the API who can also read the sandbox's records."""

    stack: Stack

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.stack.api_key}"}

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the API; the answer."""
        url = f"{self.stack.web_url}{path}"
        answer = requests.request(method, url, headers=self.headers, json=body, timeout=60)
        assert answer.status_code < 400, answer.text
        return answer.json()

    def enqueue(self, provider: str, prompt: str, **more: Any) -> str:
        body = {"provider": provider, "model": EXAMPLE_MODELS[provider], "prompt": prompt, **more}
        return self.post(json=body)

    def post(self, **content: Any) -> str:
        """Enqueue whatever is posted; the job's id."""
        url = f"{self.stack.web_url}/v1/jobs"
        answer = requests.post(url, headers=self.headers, timeout=60, **content)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str, wait: float = 0) -> dict[str, Any]:
        url = f"{self.stack.web_url}/v1/jobs/{job_id}"
        answer = requests.get(url, params={"wait": wait}, headers=self.headers, timeout=wait + 60)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def outcome(self, job_id: str, within: float = WAIT_SECONDS) -> dict[str, Any]:
        """The job once it is terminal."""
        ends = monotonic() + within
        while (job := self.job(job_id, wait=1))["settled_at"] is None:
            assert monotonic() < ends, f"no outcome in {within} s: {job}, {self.timeline(job_id)}"
        return job

    def events(self, job_id: str) -> list[dict[str, Any]]:
        url = f"{self.stack.web_url}/v1/jobs/{job_id}/events"
        listed: list[dict[str, Any]] = requests.get(url, headers=self.headers, timeout=60).json()[
            "events"
        ]
        return listed

    def timeline(self, job_id: str) -> list[str]:
        return [event["event"] for event in self.events(job_id)]

    def tasks(self, prompt: str) -> list[dict[str, Any]]:
        """The provider tasks that were made, and charged, for a prompt."""
        listed = requests.get(f"{self.stack.sandbox_url}/control/tasks", timeout=60).json()
        return [task for task in listed if task["prompt"] == prompt]


def eventually(look: Callable[[], Any], within: float = WAIT_SECONDS) -> Any:
    """What `look` returns, once that is true."""
    tick, ends = threading.Event(), monotonic() + within
    while not (seen := look()):
        assert monotonic() < ends, f"not within {within} s"
        tick.wait(0.05)
    return seen


@pytest.fixture(scope="package")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A client of the Redis of `stack` that may do everything."""
    with (
        embedded_redis(tmp_path_factory.mktemp("redis")) as url,
        Redis.from_url(url, decode_responses=True) as client,
    ):
        client.execute_command(*documented_rights(REDIS_PASSWORD), CALLERS_QUEUES)
        yield client


@pytest.fixture(scope="package")
def stack(admin: Redis) -> Iterator[Stack]:
    """Every process of the Procfile, with the rights in Redis that docs/redis.md names."""
    port = admin.connection_pool.connection_kwargs["port"]
    url = f"redis://orchestrator:{REDIS_PASSWORD}@127.0.0.1:{port}/0"
    processes = ("web", "worker", "beat", "intake", "recorder")
    settings = {
        **TIMES,
        "ORCHESTRATOR_NOTIFY_TASKS": "shop.*",
        "HIAPI_PRICES": PRICES,
        "ORCHESTRATOR_API_KEYS": ",".join(f"{name}:{key}" for name, key in TENANTS.items()),
    }
    with ForkedStack(processes, redis_url=url, task_seconds=0.4, settings=settings) as running:
        yield running


@pytest.fixture(scope="package")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A stack whose processes tests kill, and start again. Its archive is a folder."""
    settings = {
        **TIMES,
        **ONE_WEB_PROCESS,
        # A worker that is told to stop has no time to finish a step.
        "ORCHESTRATOR_DRAIN_SECONDS": "0.2",
        "ORCHESTRATOR_DOWNLOAD_TIMEOUT_SECONDS": "2",
        "ORCHESTRATOR_MAX_IMAGE_BYTES": "4194304",
        **{f"{name.upper()}_POLL_SECONDS": "0.3" for name in POLLED},
    }
    home: Path = tmp_path_factory.mktemp("own")
    with ForkedStack(task_seconds=0.4, settings=settings, folder=home) as running:
        yield Client(running)


def _answers(redis_url: str) -> bool:
    with Redis.from_url(redis_url) as redis:
        try:
            return bool(redis.ping())
        except RedisError:
            return False


@dataclass(frozen=True)
class UnpolledStack:
    """A stack that polls nothing, so a callback alone can settle a job. Its Redis can be killed."""

    stack: Stack
    redis: EmbeddedRedis
    spool: Spool
    #: The settings of its processes at first.
    env: Mapping[str, str]

    @property
    def client(self) -> Client:
        return Client(self.stack)

    def restore(self) -> None:
        """Start Redis and web if a test left them killed, and web if it has other settings."""
        if not _answers(self.redis.url):
            self.redis.start()
        if self.stack.env == self.env and "web" in self.stack.running:
            return
        self.stack.env.clear()
        self.stack.env.update(self.env)
        if "web" in self.stack.running:
            restart_web(self.stack)
        else:
            self.stack.start("web")
            self.stack.wait_for("web", f"{self.stack.web_url}/healthz")


@pytest.fixture(scope="package")
def _unpolled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnpolledStack]:
    home: Path = tmp_path_factory.mktemp("unpolled")
    settings = {
        **TIMES,
        **ONE_WEB_PROCESS,
        "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": "600",
        "ORCHESTRATOR_SPOOL_DIR": str(home / "spool"),
    }
    with (
        EmbeddedRedis(home / "redis", appendfsync="always") as redis,
        ForkedStack(redis_url=redis.url, task_seconds=0.2, settings=settings, folder=home) as stack,
    ):
        yield UnpolledStack(stack, redis, Spool(home / "spool"), dict(stack.env))


@pytest.fixture
def unpolled(_unpolled: UnpolledStack) -> UnpolledStack:
    """Web, worker and beat with a spool and without polls. Redis and web run before each test."""
    _unpolled.restore()
    return _unpolled


def restart_web(stack: Stack, **changes: str) -> None:
    """Stop web, and start it with other settings. An empty setting is not set."""
    web = stack.running.pop("web")
    web.terminate()
    web.wait(WAIT_SECONDS)
    stack.env.update(changes)
    stack.start("web")
    stack.wait_for("web", f"{stack.web_url}/healthz")


@pytest.fixture
def client(stack: Stack) -> Client:
    return Client(stack)


@pytest.fixture
def here(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """This process, with the stack's own settings."""
    for name, value in client.stack.env.items():
        if name.startswith(("ORCHESTRATOR_", *(f"{known.upper()}_" for known in BUILT_IN))):
            monkeypatch.setenv(name, value)
    default_runtime.cache_clear()
    yield client
    default_runtime().nudger.close()
    default_runtime.cache_clear()


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)
