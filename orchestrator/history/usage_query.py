"""Reads the usage figures and the costs of groups of jobs from the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from orchestrator.clock import DAY_MS, iso_date
from orchestrator.history.query import Query
from orchestrator.history.schema import facets, jobs
from orchestrator.history.usage import TIME_STEP_MS, Usage
from orchestrator.jobs.model import SettledBy


def usage(connection: Connection, query: Query, by: Sequence[str]) -> list[Usage]:
    """Return the figures of the jobs that match a query, ordered by group.

    Args:
        connection: to the history.
        query: of its filters, only those by facet and by time of creation are used.
        by: names of DIMENSIONS.
    """
    rows: dict[tuple[Any, ...], Usage] = {}
    keys = [_dimension(name).label(name) for name in by]

    def row_of(values: Sequence[Any]) -> Usage:
        group, unit = tuple(values[: len(by)]), values[len(by)]
        if (*group, unit) not in rows:
            shown = {n: _shown(n, value) for n, value in zip(by, group, strict=True)}
            rows[*group, unit] = Usage(shown, unit)
        return rows[*group, unit]

    for *values, status, settled_by, source, number, images, cost in connection.execute(
        _counts(query, keys)
    ):
        row = row_of(values)
        row.jobs[status] += number
        row.images += images
        row.callbacks += number if settled_by == SettledBy.CALLBACK else 0
        row.reported += cost if source == "reported" else 0
        row.computed += cost if source == "computed" else 0
        row.unknown_costs += number if source == "unknown" else 0
    for *values, step, number in connection.execute(_times(query, keys)):
        row_of(values).times[step] += number
    return [rows[key] for key in sorted(rows, key=lambda k: tuple(str(part or "") for part in k))]


@dataclass(frozen=True, slots=True)
class CostSum:
    """Jobs of a day with the same tenant, provider, and unit and source of cost.

    Several sums may have all of these in common.

    Attributes:
        day: of their creation, in UTC, such as `2026-11-28`.
        unit: of the amount; None: the cost is not known.
        source: `reported`, `computed` or `unknown`.
        jobs: their number.
        amount: the sum of their costs.
    """

    day: str
    tenant: str
    provider: str
    unit: str | None
    source: str
    jobs: int
    amount: float


def cost_sums(connection: Connection, query: Query) -> list[CostSum]:
    """Return the costs of the jobs that match a query and that a provider accepted, by day.

    Args:
        connection: to the history.
        query: of its filters, only those by facet and by time of creation are used.
    """
    # Groups of facets are summed before their names are read: half the time of a join of all jobs.
    day = (jobs.c.created_at // DAY_MS).label("day")
    groups = (day, jobs.c.facet, jobs.c.cost_unit, jobs.c.cost_source)
    amount = func.coalesce(func.sum(jobs.c.cost_amount), 0.0).label("amount")
    of_time = _of_time(query, select(*groups, func.count().label("number"), amount))
    sums = of_time.where(jobs.c.cost_source.is_not(None)).group_by(*groups).subquery()
    known = (facets.c.tenant, facets.c.provider, sums.c.cost_unit, sums.c.cost_source)
    chosen = select(sums.c.day, *known, sums.c.number, sums.c.amount)
    chosen = chosen.join(facets, sums.c.facet == facets.c.id)
    for name, value in query.facet.items():
        chosen = chosen.where(facets.c[name] == value)
    return [CostSum(_shown("day", number), *rest) for number, *rest in connection.execute(chosen)]


def _dimension(name: str) -> ColumnElement[Any]:
    return jobs.c.created_at // DAY_MS if name == "day" else facets.c[name]


def _shown(name: str, value: Any) -> str:
    return iso_date(value) if name == "day" else str(value)


def _counts(query: Query, keys: list[Any]) -> Select[Any]:
    groups = [
        *keys,
        jobs.c.cost_unit,
        facets.c.status,
        jobs.c.settled_by,
        jobs.c.cost_source,
    ]
    amount = func.coalesce(func.sum(jobs.c.cost_amount), 0.0)
    figures = (func.count(), func.sum(jobs.c.images), amount)
    return of_query(query, select(*groups, *figures)).group_by(*groups)


def _times(query: Query, keys: list[Any]) -> Select[Any]:
    step = (jobs.c.settled_at - jobs.c.created_at) // TIME_STEP_MS
    groups = [*keys, jobs.c.cost_unit, step.label("step")]
    settled = jobs.c.settled_at.is_not(None)
    return of_query(query, select(*groups, func.count())).where(settled).group_by(*groups)


def of_query(query: Query, chosen: Select[Any]) -> Select[Any]:
    """Return the statement for the jobs of a query. Their ids begin with the time of creation."""
    chosen = chosen.select_from(jobs.join(facets, jobs.c.facet == facets.c.id))
    for name, value in query.facet.items():
        chosen = chosen.where(facets.c[name] == value)
    return _of_time(query, chosen)


def _of_time(query: Query, chosen: Select[Any]) -> Select[Any]:
    chosen = chosen.where(jobs.c.id > query.above, jobs.c.id < query.below)
    if query.after is not None:
        chosen = chosen.where(jobs.c.created_at >= query.after)
    if query.before is not None:
        chosen = chosen.where(jobs.c.created_at < query.before)
    return chosen
