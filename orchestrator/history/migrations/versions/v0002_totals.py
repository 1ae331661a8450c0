"""Make the table of totals, and keep how the archive and the notification of a job ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table and the columns. Totals begin with the changes from now on."""
    op.add_column("jobs", sa.Column("archive", sa.Text))
    op.add_column("jobs", sa.Column("notification", sa.Text))
    op.create_table(
        "totals",
        sa.Column("series", sa.Text, primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
    )
