"""The connection to the history's database: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from orchestrator.forks import renew_in_children
from orchestrator.history.errors import HistoryUnavailable, NoHistory
from orchestrator.history.revision import REVISION
from orchestrator.storage.files import make_folder

#: The longest wait for another writer. Seconds.
LOCK_TIMEOUT_SECONDS = 10
#: After a failure, calls fail at once for this time. Seconds.
PAUSE_SECONDS = 2.0


class Database:
    """The database of a history. It connects at the first use.

    Args:
        url: an SQLAlchemy URL, for SQLite or PostgreSQL; None: there is no history.
    """

    def __init__(self, url: str | None) -> None:
        self._absent = url is None
        self._url = make_url(url or "sqlite://")
        self._sqlite = self._url.get_backend_name() == "sqlite"
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Forget the connections, without closing them. A child of a fork shares them."""
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is not None:
            engine.dispose(close=False)
        self._engine: Engine | None = None
        self._ready = False
        self._retry_at = 0.0

    def close(self) -> None:
        """Close all connections."""
        if self._engine is not None:
            self._engine.dispose()
        self._engine, self._ready = None, False

    @property
    def place(self) -> str:
        """The place of the database, without user and password."""
        if self._sqlite:
            return str(self._url.database)
        return f"{self._url.host or 'local'}/{self._url.database or ''}"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for reading.

        Raises:
            NoHistory: no recorder has ever run.
            HistoryUnavailable: the database does not answer.
        """
        with self._connected(writes=False) as connection:
            if not self._ready:
                self._ready = self._has_tables(connection)
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection. What it writes is kept if no exception is raised.

        Raises:
            HistoryUnavailable: the database does not answer. Nothing is written.
        """
        with self._connected(writes=True) as connection:
            yield connection

    def migrate(self) -> None:
        """Make the tables, or change them to the form that this version needs.

        Raises:
            HistoryUnavailable: the database does not answer, or belongs to a newer version.
        """
        from orchestrator.history import migrations  # noqa: PLC0415  # only the recorder needs it

        if self._sqlite:
            self._make_file()
        with self._connected(writes=True) as connection:
            if not self._sqlite:  # two recorders may start at the same time
                connection.execute(text("SELECT pg_advisory_xact_lock(7021653)"))
            migrations.upgrade(connection)

    @contextmanager
    def _connected(self, *, writes: bool) -> Iterator[Connection]:
        if monotonic() < self._retry_at:
            raise HistoryUnavailable("the last call failed")
        if self._sqlite and not self._file_exists():
            raise NoHistory("no recorder has run yet")
        try:
            with self._connect().execution_options(writes=writes) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            self._retry_at = monotonic() + PAUSE_SECONDS
            raise HistoryUnavailable(_reason(error)) from None

    def _connect(self) -> Connection:
        if self._engine is None:
            self._engine = _sqlite(self._url) if self._sqlite else _postgresql(self._url)
        return self._engine.connect()

    def _has_tables(self, connection: Connection) -> bool:
        if not inspect(connection).has_table("alembic_version"):
            raise NoHistory("no recorder has run yet")
        known = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if known is None or known < REVISION:
            raise HistoryUnavailable("its tables are of an earlier version; start the recorder")
        return True

    def _file_exists(self) -> bool:
        return not self._absent and Path(str(self._url.database)).exists()

    def _make_file(self) -> None:
        """Make the file with a mode that keeps other users out. It holds prompts."""
        path = Path(str(self._url.database))
        try:
            make_folder(path.parent, mode=0o700)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise HistoryUnavailable(f"{path}: {error.strerror}") from None


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": LOCK_TIMEOUT_SECONDS, "isolation_level": None},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Readers do not wait for the writer. A power cut may undo the last transactions, each as a
        # whole, and the recorder repeats them.
        for setting in ("journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    from orchestrator.history import postgresql  # noqa: PLC0415  # psycopg may be absent

    return postgresql.engine(url, LOCK_TIMEOUT_SECONDS)


def _reason(error: SQLAlchemyError) -> str:
    """Return the reason without the statement and its values. They may hold a prompt."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
        return lines[0][:200]
    return type(error).__name__
