"""Writes to the history. Each call belongs to the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.history.entry import FACET_COLUMNS, Entry
from orchestrator.history.increments import COUNTED_COLUMNS, CountedRow, add_increments
from orchestrator.history.schema import documents, facets, jobs, shards, terms, totals
from orchestrator.metrics import Sums

#: Facets whose number a process remembers.
MAX_KNOWN_FACETS = 10_000

Facet = tuple[str, str, str, str, str]


class Writer:
    """Writes jobs and positions. One process may have several."""

    def __init__(self) -> None:
        self._facets: dict[Facet, int] = {}

    def lock(self, connection: Connection, shard: int) -> None:
        """Wait until no other process writes jobs of a shard.

        A writer reads the jobs in the ledger after this. So an older state never replaces a newer
        one.
        """
        row = select(shards.c.shard).where(shards.c.shard == shard).with_for_update()
        connection.execute(row).one_or_none()

    def put(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Insert jobs, or replace them, and add what is new of them to the totals."""
        if not entries:
            return
        rows = [entry.row() for entry in entries]
        sums = _new_of(connection, entries, rows)
        numbers = self._numbers(connection, {entry.facet for entry in entries})
        for entry, row in zip(entries, rows, strict=True):
            row["facet"] = numbers[entry.facet]
        _upsert(connection, jobs, rows)
        _upsert(connection, documents, [entry.document() for entry in entries])
        known = [{"term": each, "job": e.job.id} for e in entries for each in sorted(e.terms())]
        if known:
            connection.execute(_insert(connection, terms).on_conflict_do_nothing(), known)
        # Last, because all recorders share these rows: one waits for the other's transaction.
        _add_to_totals(connection, sums)

    def move(self, connection: Connection, shard: int, **columns: Any) -> None:
        """Set the position of a shard, or other columns of its row."""
        _upsert(connection, shards, [{"shard": shard, **columns}])

    def remove(
        self,
        connection: Connection,
        job_ids: Sequence[str],
        entries: Sequence[Entry],
        unreadable: Sequence[str],
    ) -> None:
        """Delete jobs.

        Args:
            connection: of the transaction.
            job_ids: all of the jobs.
            entries: those that can be read. Their terms are found by an index.
            unreadable: the others. All terms of the history are searched for theirs.
        """
        known = [{"wanted": each, "id": e.job.id} for e in entries for each in sorted(e.terms())]
        if known:
            same = and_(terms.c.term == bindparam("wanted"), terms.c.job == bindparam("id"))
            connection.execute(delete(terms).where(same), known)
        if unreadable:
            connection.execute(delete(terms).where(terms.c.job.in_(unreadable)))
        for table in (documents, jobs):
            connection.execute(delete(table).where(table.c.id.in_(job_ids)))

    def forget_facets(self) -> None:
        """Forget the numbers of facets, because a transaction may have been undone."""
        self._facets.clear()

    def _numbers(self, connection: Connection, wanted: Iterable[Facet]) -> Mapping[Facet, int]:
        """Return the number of each facet. New ones are inserted."""
        new = [facet for facet in wanted if facet not in self._facets]
        if len(self._facets) + len(new) > MAX_KNOWN_FACETS:
            self._facets.clear()
            new = list(wanted)
        for facet in new:
            values = dict(zip(FACET_COLUMNS, facet, strict=True))
            connection.execute(_insert(connection, facets).on_conflict_do_nothing(), values)
            same = and_(*(facets.c[name] == value for name, value in values.items()))
            self._facets[facet] = connection.execute(select(facets.c.id).where(same)).scalar_one()
        return self._facets


def _new_of(
    connection: Connection, entries: Sequence[Entry], columns: Sequence[Mapping[str, Any]]
) -> Sums:
    """Return what the totals lack of jobs, before the rows of the jobs are replaced."""
    chosen = select(jobs.c.id, *(jobs.c[name] for name in COUNTED_COLUMNS))
    ids = [entry.job.id for entry in entries]
    rows: Any = connection.execute(chosen.where(jobs.c.id.in_(ids)))
    known: dict[str, CountedRow] = {row.id: row for row in rows}
    sums = Sums()
    for entry, new in zip(entries, columns, strict=True):
        add_increments(sums, entry.job, new, known.get(entry.job.id))
    return sums


def _add_to_totals(connection: Connection, sums: Sums) -> None:
    if not sums:
        return
    insert = _insert(connection, totals)
    added = {"value": totals.c.value + insert.excluded.value}
    # In a fixed order, so that two recorders do not wait for each other's rows.
    changed = [{"series": series, "value": value} for series, value in sums.stored().items()]
    upsert = insert.on_conflict_do_update(index_elements=["series"], set_=added)
    connection.execute(upsert, changed)


def _insert(connection: Connection, table: Table) -> Any:
    made = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return made(table)


def _upsert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    key = [column.name for column in table.primary_key]
    insert = _insert(connection, table)
    changed = {name: insert.excluded[name] for name in rows[0] if name not in key}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=changed), rows)
