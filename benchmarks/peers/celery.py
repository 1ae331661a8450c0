"""Flask, Celery and Redis by hand, as tutorials write it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from redis import Redis

from benchmarks.peers.peer import APPS, Peer
from benchmarks.product import PLAIN, JobKind
from benchmarks.redis_server import BenchmarkRedis

#: A task of a killed worker comes back after this time. The default is an hour. Seconds.
VISIBILITY_SECONDS = "20"


class Celery(Peer):
    """The Redis syncs each write before it answers, as that of the product."""

    app = ("web", "worker")
    measured = ("web", "worker")

    def start(self, closing: ExitStack) -> None:
        """Start Redis and the app."""
        self._server = closing.enter_context(BenchmarkRedis(self.folder / "redis"))
        self._redis = closing.enter_context(Redis.from_url(self._server.url))
        self.start_app()

    def start_app(self) -> None:
        """Start the web server and the worker."""
        programs = Path(sys.executable).parent
        web: list[str | Path] = [programs / "granian", "--interface", "wsgi", "--workers", "2"]
        web += ["--blocking-threads", "8", "--host", "127.0.0.1", "--port", str(self.port)]
        worker: list[str | Path] = [programs / "celery", "--app", "celery_app:tasks", "worker"]
        worker += ["--pool", "prefork"]
        worker += ["--concurrency", "4", "--loglevel", "WARNING", "--without-gossip"]
        worker += ["--without-mingle", "--without-heartbeat"]
        for name, command in (
            ("web", [*web, "--no-access-log", "celery_app:app"]),
            ("worker", worker),
        ):
            self.processes.start(name, command, env=self._settings(), cwd=APPS)
        self.wait("the web server of Celery's app", self.port)

    def pids(self) -> dict[str, int]:
        """Add Redis."""
        return {**super().pids(), "redis": int(self._redis.info("server")["process_id"])}

    def completed(self, kind: JobKind = PLAIN) -> list[int]:
        """Return how many jobs have an outcome."""
        return [self.ended()]

    def ended(self) -> int:
        """Ask Redis."""
        return int(self._redis.scard("ended"))

    def _settings(self) -> dict[str, str]:
        return {
            "PORT": str(self.port),
            "PROVIDER_URL": self.stub.url,
            "REDIS_URL": self._server.url,
            "SECRET": self.secret,
            "VISIBILITY_SECONDS": VISIBILITY_SECONDS,
        }
