"""The tables of the history. A migration in `migrations/versions` makes each change of them.

A **facet** is a combination of tenant, provider, model, status and error code. There are few of
them, so an index of the jobs of each facet answers every combination of these filters.

A **term** is a digest of something that a job has: a provider task, an idempotency key, a batch or
a value in its metadata. It has a fixed size, and no text of a caller is in it.

Jobs are ordered by their ids, which begin with the time of creation.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

from orchestrator.history.entry import FACET_COLUMNS, TERM_BYTES

metadata = MetaData()
#: Sorts as bytes do, as Redis sorts ids.
_ID = String(40).with_variant(String(40, collation="C"), "postgresql")

facets = Table(
    "facets",
    metadata,
    Column("id", Integer, primary_key=True),
    *(Column(name, Text, nullable=False) for name in FACET_COLUMNS),
    UniqueConstraint(*FACET_COLUMNS),
)

#: What searches and reports need of each job. Times are ms since the epoch.
jobs = Table(
    "jobs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("facet", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("submitted_at", BigInteger),  # of the first attempt
    Column("settled_at", BigInteger),
    Column("settled_by", Text),
    Column("attempts", Integer, nullable=False),
    Column("images", Integer, nullable=False),
    Column("archived", Integer, nullable=False),
    Column("cost_amount", Float),
    Column("cost_unit", Text),
    Column("cost_source", Text),  # reported, computed or unknown; empty until it was accepted
    Column("unconfirmed", Boolean, nullable=False),
    Column("expiring_at", BigInteger),  # the first link, while its archive is pending
    Column("given_up_until", BigInteger),  # the first link, when its archive is dead
    Column("archive", Text),  # the status of the archive, and of the notification
    Column("notification", Text),
)
Index("jobs_of_facet", jobs.c.facet, jobs.c.id)
for _name, _column, _where in (
    ("jobs_unconfirmed", jobs.c.id, jobs.c.unconfirmed.is_(True)),
    ("jobs_expiring", jobs.c.expiring_at, jobs.c.expiring_at.is_not(None)),
    ("jobs_given_up", jobs.c.given_up_until, jobs.c.given_up_until.is_not(None)),
):
    Index(_name, _column, sqlite_where=_where, postgresql_where=_where)
#: By the name of a column: a follow-up of the job is not done. Few jobs have such a one. SQLite
#: uses a partial index only for a query with the same condition, so the value is no parameter.
NOT_DONE: dict[str, ColumnElement[bool]] = {
    name: jobs.c[name] != literal_column("'done'") for name in ("archive", "notification")
}
for _name, _open in NOT_DONE.items():
    _columns = (jobs.c[_name], jobs.c.id)
    Index(f"jobs_{_name}", *_columns, sqlite_where=_open, postgresql_where=_open)

#: Each job as the ledger had it: JSON of its fields, and JSON of the lines of its timeline.
documents = Table(
    "documents",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("fields", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("unconfirmed", Text, nullable=False),  # the numbers of its unconfirmed attempts
)

terms = Table(
    "terms",
    metadata,
    Column("term", LargeBinary(TERM_BYTES), primary_key=True),
    Column("job", _ID, primary_key=True),
    sqlite_with_rowid=False,
)

#: How far the stream of changes of each shard is recorded.
shards = Table(
    "shards",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("position", Text, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),  # ms
    # Since when jobs may be missing, because the stream was cut or the history is new. ms
    Column("incomplete_since", BigInteger),
)

#: Sums for `/metrics` by series: see `increments.py`. They only grow.
totals = Table(
    "totals",
    metadata,
    Column("series", Text, primary_key=True),
    Column("value", Double, nullable=False),
)
