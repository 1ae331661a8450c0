"""A PostgreSQL that does not answer, or breaks a statement off."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from orchestrator.history import HistoryUnavailable, database, postgresql
from orchestrator.history.database import Database


def server_process(connection: Connection) -> int:
    """The process of the server that answers a connection."""
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_server_that_does_not_answer_is_given_up(
    empty_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, hanging = Database(empty_postgres), list[int]()
    monkeypatch.setattr(database, "PAUSE_SECONDS", 0.0)
    history.migrate()

    def hang() -> None:
        with history.reading() as connection, monkeypatch.context() as patch:
            connection.execute(text("SET statement_timeout = 0"))
            hanging.append(server_process(connection))
            patch.setattr(postgresql, "ANSWER_TIMEOUT_SECONDS", 0.2)
            connection.execute(text("SELECT pg_sleep(60)"))

    with pytest.raises(HistoryUnavailable, match="the server does not answer"):
        hang()

    with history.reading() as connection:
        assert server_process(connection) not in hanging
        end = text("SELECT pg_terminate_backend(:process)")
        assert connection.execute(end, {"process": hanging[0]}).scalar()
    history.close()


def test_a_statement_that_the_server_breaks_off_keeps_its_connection(empty_postgres: str) -> None:
    history = Database(empty_postgres)
    history.migrate()
    with history.reading() as connection:
        before = server_process(connection)
        connection.execute(text("SAVEPOINT before"))
        connection.execute(text("SET LOCAL statement_timeout = 50"))
        with pytest.raises(DBAPIError, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(60)"))
        connection.execute(text("ROLLBACK TO before"))
        assert server_process(connection) == before
    history.close()
