"""Histories on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from orchestrator.history.history import History
from tests.support import debian, postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL for the whole suite."""
    initdb = debian.program("postgresql")
    if initdb is None:
        pytest.skip(debian.missing("postgresql"))
    with postgres.running(initdb.parent) as url:
        yield url


@pytest.fixture
def history_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/history/history.db"


@pytest.fixture
def empty_postgres(postgres_url: str) -> str:
    """The URL of a PostgreSQL without tables."""
    plain = postgres_url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres_url


@pytest.fixture
def open_history() -> Iterator[Callable[[str], History]]:
    """A function that opens a history. It is closed after the test."""
    opened: list[History] = []

    def begin(url: str) -> History:
        opened.append(History(url))
        return opened[-1]

    yield begin
    for history in opened:
        history.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def history(request: pytest.FixtureRequest, open_history: Callable[[str], History]) -> History:
    """A history without tables."""
    fixture = "history_url" if request.param == "sqlite" else "empty_postgres"
    return open_history(request.getfixturevalue(fixture))
