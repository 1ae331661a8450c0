"""Make the first tables. See `schema.py` for their meaning."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")
_FACET = ("tenant", "provider", "model", "status", "error")


def upgrade() -> None:
    """Make the tables and their indexes."""
    op.create_table(
        "facets",
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in _FACET),
        sa.UniqueConstraint(*_FACET),
    )
    op.create_table(
        "jobs",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("facet", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("submitted_at", sa.BigInteger),
        sa.Column("settled_at", sa.BigInteger),
        sa.Column("settled_by", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("archived", sa.Integer, nullable=False),
        sa.Column("cost_amount", sa.Float),
        sa.Column("cost_unit", sa.Text),
        sa.Column("cost_source", sa.Text),
        sa.Column("unconfirmed", sa.Boolean, nullable=False),
        sa.Column("expiring_at", sa.BigInteger),
        sa.Column("given_up_until", sa.BigInteger),
    )
    op.create_index("jobs_of_facet", "jobs", ["facet", "id"])
    for name, column, condition in (
        ("jobs_unconfirmed", "id", sa.column("unconfirmed", sa.Boolean).is_(True)),
        ("jobs_expiring", "expiring_at", sa.column("expiring_at").is_not(None)),
        ("jobs_given_up", "given_up_until", sa.column("given_up_until").is_not(None)),
    ):
        op.create_index(name, "jobs", [column], sqlite_where=condition, postgresql_where=condition)
    op.create_table(
        "documents",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("events", sa.Text, nullable=False),
        sa.Column("unconfirmed", sa.Text, nullable=False),
    )
    op.create_table(
        "terms",
        sa.Column("term", sa.LargeBinary(16), primary_key=True),
        sa.Column("job", _ID, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "shards",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("incomplete_since", sa.BigInteger),
    )
