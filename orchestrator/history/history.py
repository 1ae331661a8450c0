"""The history of one installation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from orchestrator.history.activity_query import JobCount, count_jobs
from orchestrator.history.database import Database
from orchestrator.history.entry import Entry, read_document, readable
from orchestrator.history.pages import FoundPage, find_page
from orchestrator.history.query import Query
from orchestrator.history.schema import documents, jobs, shards, terms, totals
from orchestrator.history.usage import Usage
from orchestrator.history.usage_query import CostSum, cost_sums, usage
from orchestrator.history.writer import Writer
from orchestrator.ledger.changes import StoredJob
from orchestrator.ledger.refusals import UnreadableJob
from orchestrator.metrics import Sums

#: Jobs that are deleted in one transaction.
PRUNED_JOBS = 500


@dataclass(frozen=True, slots=True)
class Position:
    """How far the changes of a shard are recorded.

    Attributes:
        position: the id of the last recorded entry of the stream.
        recorded_at: when it was recorded, ms.
        incomplete_since: since when jobs may be missing (ms), or None.
    """

    position: str
    recorded_at: int
    incomplete_since: int | None


class Batch:
    """One transaction of a writer."""

    def __init__(self, connection: Connection, writer: Writer) -> None:
        self._connection = connection
        self._writer = writer

    def position(self, shard: int) -> Position | None:
        """Return the position of a shard, or None before its first record."""
        return _positions(self._connection, shard).get(shard)

    def lock(self, shard: int) -> Position | None:
        """Keep other writers from the jobs of a shard, and return its position."""
        self._writer.lock(self._connection, shard)
        return self.position(shard)

    def put(self, entries: Sequence[Entry]) -> None:
        """Insert jobs, or replace them."""
        self._writer.put(self._connection, entries)

    def move(self, shard: int, position: str, *, now: int) -> None:
        """Record that everything up to a position is written."""
        self._writer.move(self._connection, shard, position=position, recorded_at=now)

    def begin(self, shard: int, position: str, *, now: int) -> None:
        """Continue at a position, and record that jobs may be missing since now (ms)."""
        columns = {"position": position, "recorded_at": now, "incomplete_since": now}
        self._writer.move(self._connection, shard, **columns)

    def complete(self, shard: int, since: int) -> None:
        """Record that no job is missing, unless jobs may be missing since a later time (ms)."""
        self._connection.execute(
            update(shards)
            .where(shards.c.shard == shard, shards.c.incomplete_since == since)
            .values(incomplete_since=None)
        )

    def entries(self, job_ids: Sequence[str]) -> dict[str, Entry]:
        """Return jobs by id. Unknown ones are missing."""
        return _entries(self._connection, job_ids)

    def remove(self, job_ids: Sequence[str]) -> None:
        """Delete jobs, also those that this version cannot read. Unknown ones are left out."""
        entries, unreadable = readable(_stored_jobs(self._connection, job_ids).values())
        odd = [each.job_id for each in unreadable]
        self._writer.remove(self._connection, job_ids, list(entries.values()), odd)

    def ended(self, after: str, before: int) -> tuple[list[str], str]:
        """Return the next jobs that ended before a time (ms), oldest first.

        Args:
            after: the id after which to search.
            before: ms.

        Returns:
            The ids, and the id after which to continue; it is empty at the end.
        """
        some = (
            select(jobs.c.id, jobs.c.created_at, jobs.c.settled_at)
            .where(jobs.c.id > after)
            .order_by(jobs.c.id)
            .limit(PRUNED_JOBS)
        )
        rows = self._connection.execute(some).all()
        ended = [row.id for row in rows if row.settled_at is not None and row.settled_at < before]
        is_last = len(rows) < PRUNED_JOBS or rows[-1].created_at >= before
        return ended, "" if is_last else rows[-1].id


class History:
    """The history of one installation. It connects at its first use.

    Args:
        url: an SQLAlchemy URL, for SQLite or PostgreSQL; None: there is no history.
    """

    def __init__(self, url: str | None = None) -> None:
        self.database = Database(url)

    @property
    def place(self) -> str:
        """The place of the database, without user and password."""
        return self.database.place

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    @contextmanager
    def writing(self, writer: Writer) -> Iterator[Batch]:
        """Yield a transaction. What it writes is kept if no exception is raised.

        Raises:
            HistoryUnavailable: the database does not answer. Nothing is written.
        """
        try:
            with self.database.writing() as connection:
                yield Batch(connection, writer)
        except BaseException:
            writer.forget_facets()
            raise

    def positions(self) -> dict[int, Position]:
        """Return the position of each shard that was recorded.

        Raises:
            HistoryUnavailable: the database does not answer, or there is none.
        """
        with self.database.reading() as connection:
            return _positions(connection)

    def find(
        self, query: Query, *, below: str | None = None, above: str | None = None, limit: int
    ) -> FoundPage:
        """Return the newest matching jobs with `above` < id < `below`.

        A page may have fewer than `limit` jobs and not be the last. The last has no cursor.

        Raises:
            HistoryUnavailable: the database does not answer, or there is none.
        """
        with self.database.reading() as connection:
            return find_page(connection, query, below=below, above=above, limit=limit)

    def usage(self, query: Query, by: Sequence[str]) -> list[Usage]:
        """Return the figures of groups of jobs. See `usage.usage`.

        Raises:
            HistoryUnavailable: the database does not answer, or there is none.
        """
        with self.database.reading() as connection:
            return usage(connection, query, by)

    def cost_sums(self, query: Query) -> list[CostSum]:
        """Return the costs of jobs by day, tenant and provider. See `cost_sums`.

        Raises:
            HistoryUnavailable: the database does not answer, or there is none.
        """
        with self.database.reading() as connection:
            return cost_sums(connection, query)

    def count_jobs(self, query: Query, interval_ms: int) -> list[JobCount]:
        """Return the counts of jobs by intervals of their creation. See `count_jobs`.

        Raises:
            HistoryUnavailable: the database does not answer, or there is none.
        """
        with self.database.reading() as connection:
            return list(count_jobs(connection, query, interval_ms))

    def totals(self) -> Sums:
        """Return the sums for `/metrics`.

        Raises:
            HistoryUnavailable: the database does not answer, or there is none.
        """
        with self.database.reading() as connection:
            rows = connection.execute(select(totals.c.series, totals.c.value))
            return Sums.read([(row.series, row.value) for row in rows])

    def get(self, job_id: str) -> Entry | None:
        """Return a job, or None.

        Raises:
            HistoryUnavailable: the database does not answer, or there is none.
        """
        return self.entries([job_id]).get(job_id)

    def entries(self, job_ids: Sequence[str]) -> dict[str, Entry]:
        """Return jobs by id. Unknown ones are missing. For errors see `get`."""
        with self.database.reading() as connection:
            return _entries(connection, job_ids)

    def readable_entries(
        self, job_ids: Sequence[str]
    ) -> tuple[dict[str, Entry], list[UnreadableJob]]:
        """Return jobs by id, and those that this version cannot read. For errors see `get`."""
        return readable(self.stored_jobs(job_ids).values())

    def stored_jobs(self, job_ids: Sequence[str]) -> dict[str, StoredJob]:
        """Return jobs by id, and read less of them than `entries` does. For errors see `get`."""
        with self.database.reading() as connection:
            return _stored_jobs(connection, job_ids)

    def with_terms(self, wanted: Sequence[bytes], *, limit: int) -> list[str]:
        """Return up to `limit` jobs that have one of the terms. For errors see `get`."""
        chosen = select(terms.c.job).where(terms.c.term.in_(wanted)).limit(limit)
        with self.database.reading() as connection:
            return list(connection.execute(chosen).scalars())

    def open_ids(self, *, after: str = "", limit: int) -> list[str]:
        """Return jobs without an outcome with ids after `after`, oldest first."""
        chosen = select(jobs.c.id).where(jobs.c.settled_at.is_(None), jobs.c.id > after)
        with self.database.reading() as connection:
            return list(connection.execute(chosen.order_by(jobs.c.id).limit(limit)).scalars())

    def prune(self, *, before: int) -> Iterator[int]:
        """Delete the jobs that ended before a time (ms). Yield the number of each transaction.

        Raises:
            HistoryUnavailable: the database does not answer, or there is none.
        """
        writer, last = Writer(), ""
        with self.database.reading():  # there is a history of this version
            pass
        while True:
            with self.writing(writer) as batch:
                ids, last = batch.ended(last, before)
                batch.remove(ids)
            yield len(ids)
            if not last:
                return


def _positions(connection: Connection, shard: int | None = None) -> dict[int, Position]:
    chosen = select(shards)
    if shard is not None:
        chosen = chosen.where(shards.c.shard == shard)
    return {
        row.shard: Position(row.position, row.recorded_at, row.incomplete_since)
        for row in connection.execute(chosen)
    }


def _entries(connection: Connection, job_ids: Sequence[str]) -> dict[str, Entry]:
    stored = _stored_jobs(connection, job_ids)
    return {job_id: Entry.of(each) for job_id, each in stored.items()}


def _stored_jobs(connection: Connection, job_ids: Sequence[str]) -> dict[str, StoredJob]:
    if not job_ids:
        return {}
    rows = connection.execute(select(documents).where(documents.c.id.in_(job_ids)))
    return {row.id: read_document(*row) for row in rows}
