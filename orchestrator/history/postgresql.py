"""The connections to PostgreSQL. None of them waits for ever."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

#: The time for a connection, and the longest wait for a free one. Seconds.
CONNECT_TIMEOUT_SECONDS, FREE_TIMEOUT_SECONDS = 2, 10
#: The longest time of a statement. The server breaks it off. Seconds.
STATEMENT_TIMEOUT_SECONDS = 30
#: The longest wait for an answer. A server that is gone or hangs breaks nothing off. Seconds.
ANSWER_TIMEOUT_SECONDS = 35.0


class TimedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server does not answer in time."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server as psycopg does, but not longer than ANSWER_TIMEOUT_SECONDS.

        Raises:
            OperationalError: the server has not answered.
        """
        try:
            return super().wait(gen, interval, timeout or ANSWER_TIMEOUT_SECONDS)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError("the server does not answer") from None


def engine(url: URL, lock_timeout_seconds: int) -> Engine:
    """Return the pool of connections to a database."""
    options = f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s"
    options += f" -c lock_timeout={lock_timeout_seconds}s"
    made = create_engine(
        url,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "options": options},
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=12,
        pool_timeout=FREE_TIMEOUT_SECONDS,
        hide_parameters=True,
    )

    @event.listens_for(made, "do_connect")
    def connect(_: Any, __: Any, arguments: Any, options: Any) -> TimedConnection:
        return TimedConnection.connect(*arguments, **options)

    return made
