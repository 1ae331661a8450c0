"""Fakes for the outside of a process: a provider, a clock, random numbers and sent nudges."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fakeredis
import orjson
import pytest
from redis import Redis

from orchestrator.enqueuing import create_job
from orchestrator.host_limiter import HostLimiter
from orchestrator.jobs.model import Job, Step
from orchestrator.ledger import Ledger, keys
from orchestrator.messages import Broker, Nudger
from orchestrator.net.guarded_session import GuardedSession
from orchestrator.providers import BUILT_IN, PROVIDERS
from orchestrator.providers.client import ProviderClient
from orchestrator.runtime import Runtime, default_runtime
from orchestrator.settings.settings import Settings
from orchestrator.storage.storage import Storage
from tests.support.providers import EXAMPLE_REQUESTS

#: A day in 2026, in ms.
NOON = 1_796_000_000_000
SECRET_KEY = "k" * 32
#: The tenant of the API key of the tests, and of the jobs of `Harness.enqueue`.
TENANT = "tests"
API_KEY = "sk-provider-key-that-must-not-leak"
PUBLIC_URL = "https://hooks.example.com"


@dataclass(frozen=True)
class ReceivedRequest:
    """One request that a fake provider received. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """An answer of a fake provider. None in its place drops the connection."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[ReceivedRequest], Answer | None]


def answer(status: int, body: Any, **headers: str) -> Answer:
    """Return an answer with a JSON body. `Retry_After="5"` sets a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, orjson.dumps(body), named)


@dataclass
class FakeProvider:
    """A provider on 127.0.0.1. A function gives its answers, and a test may replace it."""

    handler: Handler = lambda _: Answer(500)
    requests: list[ReceivedRequest] = field(default_factory=list)
    url: str = ""

    def answers(self, *answers: Answer | None) -> None:
        """Give these answers in order, then repeat the last one."""
        left = list(answers)
        self.handler = lambda _: left.pop(0) if len(left) > 1 else left[0]


class FakeProviderHandler(BaseHTTPRequestHandler):
    """Hands each request to the fake provider of its server."""

    protocol_version = "HTTP/1.1"
    server: FakeProviderServer

    def take(self) -> None:
        fake = self.server.fake
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = ReceivedRequest(self.command, self.path, headers, body)
        fake.requests.append(request)
        response = fake.handler(request)
        self.close_connection = True
        if response is None:
            return
        self.send_response(response.status)
        for name, value in {
            "Content-Length": str(len(response.body)),
            **response.headers,
        }.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(response.body)

    def do_GET(self) -> None:
        self.take()

    def do_POST(self) -> None:
        self.take()

    def log_message(self, format: str, *args: object) -> None:
        pass


class FakeProviderServer(ThreadingHTTPServer):
    """A server that one test after another uses. It ends with the process."""

    def __init__(self) -> None:
        self.fake = FakeProvider()
        super().__init__(("127.0.0.1", 0), FakeProviderHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


#: The servers that no test uses now.
_UNUSED_SERVERS: list[FakeProviderServer] = []


@contextmanager
def serving(fake: FakeProvider) -> Iterator[FakeProvider]:
    """Serve a fake provider. The next test uses the same port."""
    server = _UNUSED_SERVERS.pop() if _UNUSED_SERVERS else FakeProviderServer()
    server.fake = fake
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        _UNUSED_SERVERS.append(server)


@dataclass
class Clock:
    """A clock that only the test moves. ms."""

    now: int = NOON

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


@dataclass
class Timer:
    """A monotonic clock that only the test moves. Seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Chance:
    """A source of random numbers that returns a fixed number."""

    number: float = 0.0

    def __call__(self) -> float:
        return self.number


class Nudges(Nudger):
    """Records nudges and does not send them."""

    def __init__(self) -> None:
        super().__init__(lambda *_: None)
        self.sent: list[tuple[Step, str]] = []

    def nudge(self, step: Step, job_ids: Sequence[str], provider: str = "") -> None:
        self.sent.extend((step, job_id) for job_id in job_ids)


class Killed(BaseException):
    """Simulates SIGKILL inside one process."""


def killed(*_: object, **__: object) -> None:
    raise Killed


@dataclass
class Harness:
    """The runtime of one process, with fakes that the test controls."""

    runtime: Runtime
    clock: Clock
    chance: Chance
    nudges: Nudges
    provider: FakeProvider
    redis: Redis

    @property
    def ledger(self) -> Ledger:
        return self.runtime.ledger

    def enqueue(self, provider: str = "hiapi", *, tenant: str = TENANT, **fields: Any) -> str:
        """Create a job and return its id."""
        return create_job(
            self.runtime, {**EXAMPLE_REQUESTS[provider], **fields}, scope="test", tenant=tenant
        ).job.id

    def job(self, job_id: str) -> Job:
        job = self.ledger.get(job_id)
        assert job is not None
        return job

    def seconds_until_due(self, job_id: str) -> float | None:
        """Return the seconds until the agenda makes the job due, or None when it has no entry."""
        score: Any = self.redis.zscore(keys.agenda(0), job_id)
        return None if score is None else (float(score) - self.clock.now) / 1000

    def events(self, job_id: str) -> list[str]:
        """Return the event names of a job's timeline."""
        return [event.name for event in self.ledger.events(job_id)]

    def with_runtime(self, **objects: Any) -> Harness:
        """Return the harness with other objects in its runtime."""
        return replace(self, runtime=replace(self.runtime, **objects))

    def on(self, ledger: Ledger) -> Harness:
        """Return the harness with another ledger."""
        return self.with_runtime(ledger=ledger)

    def storage_away(self) -> Harness:
        """Return the harness with a storage that takes no images."""
        return self.with_runtime(storage=Storage.from_url("file:///proc/no/such/folder"))

    def with_settings(self, **values: Any) -> Harness:
        """Return the harness of a restarted process with other settings."""
        return self.with_runtime(settings=replace(self.runtime.settings, **values))

    def provider_off(self) -> Harness:
        """Return the harness of a restarted process without API keys of providers."""
        return self.with_settings(providers={})


def environment(monkeypatch: pytest.MonkeyPatch, url: str, **changes: str | None) -> Settings:
    """Return settings of an environment with every built-in provider at `url`."""
    variables: dict[str, str | None] = {
        "ORCHESTRATOR_PUBLIC_URL": PUBLIC_URL,
        "ORCHESTRATOR_SECRET_KEY": SECRET_KEY,
        "ORCHESTRATOR_API_KEYS": f"{TENANT}:api-key-of-the-tests",
        "ORCHESTRATOR_ADMIN_KEYS": "ops:admin-key-of-the-tests",
        "ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS": "2",
        "ORCHESTRATOR_READ_TIMEOUT_SECONDS": "2",
        **{f"{name.upper()}_API_KEY": API_KEY for name in BUILT_IN},
        **{f"{name.upper()}_BASE_URL": url for name in BUILT_IN},
        **changes,
    }
    for name, value in variables.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    present = frozenset(each for each in os.environ.items() if each[0] != "PYTEST_CURRENT_TEST")
    return _settings(Path.cwd(), present, tuple(PROVIDERS))


@lru_cache(maxsize=64)
def _settings(
    folder: Path, variables: frozenset[tuple[str, str]], providers: tuple[str, ...]
) -> Settings:
    """Return the settings of this folder, environment and registry. Reading them takes 7 ms."""
    return Settings.from_env()


def runtime(settings: Settings, ledger: Ledger, nudger: Nudger, **objects: Any) -> Runtime:
    http = ProviderClient(
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
    )
    # A step that finds no place for its notification waits for none.
    objects.setdefault("host_limiter", HostLimiter(settings.notify_threads, max_wait=0))
    return Runtime(
        settings,
        ledger,
        http,
        nudger,
        PROVIDERS,
        session=GuardedSession(settings.guard, connect_timeout=settings.connect_timeout_seconds),
        storage=Storage.from_url(settings.archive_url),
        broker=Broker(settings.broker_url, confirms=True),
        **objects,
    )


def use_runtime(monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> None:
    """Make this the runtime of the process, for commands and Celery tasks."""
    default_runtime.cache_clear()
    monkeypatch.setattr(Runtime, "from_settings", lambda _: runtime)


def unavailable_ledger() -> Ledger:
    """Return a ledger of a Redis that does not answer."""
    server = fakeredis.FakeServer()
    server.connected = False
    return Ledger(lambda: fakeredis.FakeRedis(server=server, decode_responses=True))
