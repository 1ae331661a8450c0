"""The migrations make the tables of schema.py."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from orchestrator.history import HistoryUnavailable
from orchestrator.history.history import History
from orchestrator.history.schema import metadata


def test_the_migrations_make_the_tables_of_the_schema(history: History) -> None:
    history.database.migrate()
    history.database.migrate()  # nothing is left to do

    with history.database.reading() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    assert [each for each in found if "alembic_version" not in str(each)] == []


def test_a_database_of_a_newer_version_is_refused(history: History) -> None:
    history.database.migrate()
    with history.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(HistoryUnavailable, match="another version"):
        history.database.migrate()
