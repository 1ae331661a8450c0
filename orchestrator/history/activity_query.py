"""Counts jobs of a time by intervals of their creation, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from orchestrator.history.query import Query
from orchestrator.history.schema import facets, jobs
from orchestrator.history.usage import TIME_STEP_MS
from orchestrator.history.usage_query import of_query


@dataclass(frozen=True, slots=True)
class JobCount:
    """A number of jobs that have all these facts in common.

    Attributes:
        interval: the number of the interval in which they were created, counted from 1970.
        provider: where they are.
        status: their status now.
        settled_by: what settled them; None while they are open.
        time_step: their time from creation to outcome, in TIME_STEP_MS; None while they are open.
        jobs: their number.
    """

    interval: int
    provider: str
    status: str
    settled_by: str | None
    time_step: int | None
    jobs: int


def count_jobs(connection: Connection, query: Query, interval_ms: int) -> Iterator[JobCount]:
    """Yield the counts of the jobs of a query.

    Args:
        connection: to the history.
        query: of its filters, only those by facet and by time of creation are used.
        interval_ms: the length of an interval.
    """
    groups = (
        (jobs.c.created_at // interval_ms).label("interval"),
        facets.c.provider,
        facets.c.status,
        jobs.c.settled_by,
        ((jobs.c.settled_at - jobs.c.created_at) // TIME_STEP_MS).label("time_step"),
    )
    counted = of_query(query, select(*groups, func.count())).group_by(*groups)
    for row in connection.execute(counted):
        yield JobCount(*row)
