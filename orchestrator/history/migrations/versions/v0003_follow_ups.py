"""Index the jobs whose archive or notification is not done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the indexes."""
    for name in ("archive", "notification"):
        condition = sa.column(name) != sa.literal_column("'done'")
        op.create_index(
            f"jobs_{name}",
            "jobs",
            [name, "id"],
            sqlite_where=condition,
            postgresql_where=condition,
        )
