"""The product as a system under measurement: the processes of the Procfile, and Redis."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from redis import Redis

from benchmarks.load import NewJob
from benchmarks.redis_server import BenchmarkRedis
from benchmarks.stub_provider import Provider
from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Step
from orchestrator.jobs.request import JobRequest
from orchestrator.jsonio import dump
from orchestrator.ledger import Ledger

#: A model of each provider that the stub provider can be.
MODELS = {"hiapi": "Nano-Banana-2", "evolink": "nano-banana-2-lite"}


@dataclass(frozen=True)
class JobKind:
    """What a job asks for.

    Attributes:
        provider: the provider whose documents are used.
        images: whether it has an image, which is archived.
        notify: whether its caller is notified, at a URL of the stub provider.
    """

    provider: str = "hiapi"
    images: bool = False
    notify: bool = False


PLAIN = JobKind()
HOUR_MS = 3_600_000
#: The time when no poll may disturb a measurement. Seconds.
NO_POLLS_SECONDS = "3600"
#: One for each two cores, as docs/performance.md advises: everything runs on two.
WEB_PROCESSES = "1"


class Product:
    """The running product. Redis syncs each write before it answers (`appendfsync always`).

    Args:
        folder: for data and logs.
        stub: every submission goes there.
        processes: the processes of the Procfile to start.
        settings: more environment variables.
        deadline_seconds: a job fails after this time.

    Attributes:
        folder: as above.
    """

    def __init__(
        self,
        folder: Path,
        stub: Provider,
        *,
        processes: Sequence[str] = ("web", "worker", "beat"),
        settings: dict[str, str] | None = None,
        deadline_seconds: int = 3600,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._stub = stub
        self._redis = BenchmarkRedis(folder / "redis")
        self._settings = {
            **{f"{name.upper()}_BASE_URL": stub.url for name in MODELS},
            "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": NO_POLLS_SECONDS,
            "WEB_CONCURRENCY": WEB_PROCESSES,
            **(settings or {}),
        }
        self.folder, self._processes = folder, processes
        self._closing = ExitStack()
        self._number = 0

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(self._redis)
            self.stack = undo.enter_context(
                Stack(
                    processes=self._processes,
                    redis_url=self._redis.url,
                    settings=self._settings,
                    folder=self.folder,
                )
            )
            self.ledger = Ledger.from_url(self._redis.url)
            self._closing = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def port(self) -> int:
        """The port that takes the requests."""
        return self.stack.web_port

    def pids(self) -> dict[str, int]:
        """Return the processes whose CPU time counts. Their children count with them."""
        with Redis.from_url(self._redis.url) as client:
            redis = int(client.info("server")["process_id"])
        pids = {name: process.pid for name, process in self.stack.running.items()}
        return {**{name: pids[name] for name in self._processes if name != "beat"}, "redis": redis}

    def jobs(self, count: int, kind: JobKind = PLAIN) -> list[NewJob]:
        """Return new jobs. Each has a prompt of its own."""
        headers = {
            "Authorization": f"Bearer {self.stack.api_key}",
            "Content-Type": "application/json",
        }
        first, self._number = self._number, self._number + count
        numbers = range(first, first + count)
        return [NewJob("/v1/jobs", headers, self._body(number, kind)) for number in numbers]

    def create(self, prompt: str) -> str:
        """Create a due job in the ledger, and no message. Return its id."""
        request = JobRequest("hiapi", MODELS["hiapi"], {"prompt": prompt})
        now = now_ms()
        return self.ledger.create(request, now=now, deadline_at=now + HOUR_MS).job_id

    @contextmanager
    def paused_worker(self) -> Iterator[None]:
        """Stop the worker while jobs are prepared, so that it meets a whole backlog."""
        pid = self.stack.running["worker"].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with self.unsynced():
                yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """Prepare jobs without syncs. A disk that is busy with other work delays only the rest."""
        with Redis.from_url(self._redis.url) as client:
            client.config_set("appendfsync", "no")
            try:
                yield
            finally:
                client.config_set("appendfsync", "always")

    def completed(self, kind: JobKind = PLAIN) -> list[int]:
        """Return how many jobs have come to each end that belongs to this kind."""
        counts = self.ledger.overview.counts()
        ends: list[tuple[str, ...]] = [("succeeded", "failed")]
        ends += [(f"{Step.ARCHIVE}_done",)] if kind.images else []
        ends += [(f"{Step.NOTIFY}_done",)] if kind.notify else []
        return [sum(counts.get(name, 0) for name in names) for names in ends]

    def kill_app(self) -> None:
        """SIGKILL web, worker and beat."""
        for name in self._processes:
            self.stack.kill(name)

    def start_app(self) -> None:
        """Start them again."""
        for name in self._processes:
            self.stack.start(name)
        self.stack.wait_for("web", f"{self.stack.web_url}/readyz")

    def ended(self) -> int:
        """Return how many jobs succeeded."""
        return self.ledger.overview.counts().get("succeeded", 0)

    def reported(self) -> int:
        """Return how many jobs failed. Their callers are told that they may have been paid."""
        return self.ledger.overview.counts().get("failed", 0)

    def _body(self, number: int, kind: JobKind) -> bytes:
        job = {
            "provider": kind.provider,
            "model": MODELS[kind.provider],
            "prompt": f"A lighthouse at dusk {number}",
            "resolution": "1K",
            "deadline_seconds": self._deadline_seconds,
        }
        return dump({**job, "notify_url": f"{self._stub.url}/notify"} if kind.notify else job)
