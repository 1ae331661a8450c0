"""DBOS: a Python process with a database, SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from benchmarks.peers import installation, postgres
from benchmarks.peers.peer import APPS, Peer
from benchmarks.product import PLAIN, JobKind

#: Connections to the database. More do not help on two cores.
POOL_SIZE = 20


class DBOS(Peer):
    """A FastAPI application with asynchronous workflows, in one process."""

    app = ("app",)
    measured: ClassVar[Sequence[str]] = ("app",)

    def start(self, closing: ExitStack) -> None:
        """Start the app."""
        self.database = self.open_database(closing)
        self.start_app()

    def open_database(self, closing: ExitStack) -> str:
        """Return the URL of the database."""
        return f"sqlite:///{self.folder}/jobs.db"

    def start_app(self) -> None:
        """Start the app, which continues its workflows."""
        env = {
            "PORT": str(self.port),
            "PROVIDER_URL": self.stub.url,
            "SECRET": self.secret,
            "DATABASE_URL": self.database,
            "POOL_SIZE": str(POOL_SIZE),
            "DBOS__APPVERSION": "1",
        }
        python: Path = installation.peers_python()
        self.processes.start("app", [python, APPS / "dbos_app.py"], env=env, cwd=self.folder)
        self.wait("the app of DBOS", self.port, "/completed")

    def completed(self, kind: JobKind = PLAIN) -> list[int]:
        """Return how many jobs the app has completed."""
        return [int(self.text(self.port, "/completed"))]

    def ended(self) -> int:
        """Ask the database for successful workflows."""
        return int(self.text(self.port, "/ended"))


class DBOSOnPostgres(DBOS):
    """The same on PostgreSQL, which syncs each commit, as it does by default."""

    measured = ("app", "postgres")

    def open_database(self, closing: ExitStack) -> str:
        """Start PostgreSQL."""
        return postgres.start(self.processes, self.folder)
