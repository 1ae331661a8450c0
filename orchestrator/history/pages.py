"""Finds a page of jobs. Its cost depends on the length of the page, not on the number of jobs.

The newest jobs come first. A page is made in one of two ways.

- **Merge:** the query has facets and no terms. The lists of the jobs of each facet are merged.
- **Scan:** one index gives a window of ids in this order, and SQL applies the other filters to it.
  The index has the jobs of a term, the jobs of rare facets, the jobs with a risk, the jobs whose
  archive or notification is not done, or all jobs.

A window has a bounded size. After `MAX_WINDOWS` windows the page ends, and its cursor continues
there. So a page may have fewer jobs than its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    or_,
    select,
    union_all,
)

from orchestrator.history.query import Query
from orchestrator.history.schema import NOT_DONE, facets, jobs, terms
from orchestrator.jobs.model import FollowUpStatus
from orchestrator.ledger import identifiers

#: The jobs of a window, and the most windows of a page.
WINDOW_JOBS, MAX_WINDOWS = 2000, 2
#: A term, or all facets of a query together, with fewer jobs than this are read completely.
RARE_JOBS = 4000
#: With more facets than this, all jobs are scanned.
MAX_FACETS = 2000
#: The facets of one statement. SQLite allows 500.
FACETS_OF_STATEMENT = 200
#: The most jobs with an image at risk that a search looks at.
MAX_AT_RISK = 20_000

#: Returns the next ids of an index below an id, up to a number. The column is `id`.
Window = Callable[[str, int], Select[Any]]


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Ids of a page, newest first. `cursor` continues after it; None: it is the last one."""

    ids: list[str]
    cursor: str | None


def find_page(
    connection: Connection, query: Query, *, below: str | None, above: str | None, limit: int
) -> FoundPage:
    """Return the newest matching jobs with `above` < id < `below`."""
    low, high = max(above or "", query.above), min(below or identifiers.LAST_ID, query.below)
    if query.job_id:
        ids = [query.job_id] if low < query.job_id < high else []
        return FoundPage(_matching(connection, query, ids), None)
    number = _number_of_facets(connection, query) if query.facet else None
    if number == 0:
        return FoundPage([], None)
    is_flagged = query.at_risk or query.unconfirmed or _rare_follow_ups(query)
    has_facets = number is not None and number <= MAX_FACETS
    if has_facets and not query.terms and not is_flagged:
        return _merged_page(connection, query, Range(low, high), limit)
    numbers = _facet_numbers(connection, query) if has_facets and not is_flagged else None
    window, size = _index(connection, query, numbers, Range(low, high), limit)
    return _scan(connection, query, window, high, limit=limit, size=size)


@dataclass(frozen=True, slots=True)
class Range:
    """The ids between two texts, without these."""

    low: str
    high: str


def _index(
    connection: Connection, query: Query, numbers: list[int] | None, ids: Range, limit: int
) -> tuple[Window, int]:
    """Return the index to scan, and the size of its windows."""
    if query.at_risk or query.unconfirmed:
        return _flagged(query, ids.low), 2 * MAX_AT_RISK
    rare = next((group for group in query.terms if _is_rare(connection, group)), None)
    if rare:
        return _with_term(rare, ids.low), RARE_JOBS
    for name, status in _rare_follow_ups(query).items():
        return _with_follow_up(name, status, ids.low), RARE_JOBS
    if numbers and _are_rare(connection, numbers, ids.high):
        return _of_facets(numbers, ids.low), RARE_JOBS
    window = _with_term(query.terms[0], ids.low) if query.terms else _all(ids.low)
    return window, WINDOW_JOBS if _has_filter(query) else limit + 1


def _has_filter(query: Query) -> bool:
    flags = (query.after, query.before, query.at_risk, query.unconfirmed)
    given = query.facet or query.terms or query.follow_ups
    return bool(given) or any(flag is not None for flag in flags)


def _rare_follow_ups(query: Query) -> dict[str, str]:
    """Return the follow-ups of a query that few jobs have: those that are not done."""
    done = FollowUpStatus.DONE
    return {name: status for name, status in query.follow_ups.items() if status != done}


def _scan(
    connection: Connection, query: Query, window: Window, high: str, *, limit: int, size: int
) -> FoundPage:
    """Return the matching jobs of the next windows of an index."""
    job_ids: list[str] = []
    for _ in range(MAX_WINDOWS):
        ids = window(high, size).subquery()
        matches = select(jobs.c.id).where(jobs.c.id == ids.c.id, *_conditions(query))
        if query.facet:
            matches = matches.join(facets, jobs.c.facet == facets.c.id)
        # A join could begin with the facets, which have many more jobs than the window.
        chosen = select(ids.c.id).where(matches.exists()).order_by(ids.c.id.desc())
        job_ids += connection.execute(chosen.limit(limit + 1 - len(job_ids))).scalars()
        if len(job_ids) > limit:
            return FoundPage(job_ids[:limit], job_ids[limit - 1])
        number, last = connection.execute(select(func.count(), func.min(ids.c.id))).one()
        if number < size:
            return FoundPage(job_ids, None)
        high = last
    return FoundPage(job_ids, high)


def _conditions(query: Query) -> list[ColumnElement[bool]]:
    """Return every filter of the query as a condition of a row of `jobs` and `facets`."""
    conditions: list[ColumnElement[bool]] = []
    conditions += [facets.c[name] == value for name, value in query.facet.items()]
    for group in query.terms:
        conditions.append(exists().where(terms.c.term.in_(group), terms.c.job == jobs.c.id))
    if query.after is not None:
        conditions.append(jobs.c.created_at >= query.after)
    if query.before is not None:
        conditions.append(jobs.c.created_at < query.before)
    if query.unconfirmed is not None:
        conditions.append(jobs.c.unconfirmed.is_(query.unconfirmed))
    if query.at_risk is not None:
        risk = or_(
            func.coalesce(jobs.c.expiring_at <= query.now + query.risk_ms, False),
            func.coalesce(jobs.c.given_up_until > query.now, False),
        )
        conditions.append(risk if query.at_risk else ~risk)
    conditions += [jobs.c[name] == status for name, status in query.follow_ups.items()]
    return conditions


def _all(low: str) -> Window:
    def window(high: str, size: int) -> Select[Any]:
        chosen = select(jobs.c.id).where(jobs.c.id > low, jobs.c.id < high)
        return chosen.order_by(jobs.c.id.desc()).limit(size)

    return window


def _of_facets(numbers: list[int], low: str) -> Window:
    def window(high: str, size: int) -> Select[Any]:
        return _all(low)(high, size).where(jobs.c.facet.in_(numbers))

    return window


def _flagged(query: Query, low: str) -> Window:
    def window(high: str, size: int) -> Select[Any]:
        if query.unconfirmed:
            return _all(low)(high, size).where(jobs.c.unconfirmed.is_(True))
        expires_soon = jobs.c.expiring_at <= query.now + query.risk_ms
        parts = [
            select(jobs.c.id).where(condition).limit(MAX_AT_RISK).subquery()
            for condition in (expires_soon, jobs.c.given_up_until > query.now)
        ]
        return _united([part.c.id for part in parts], low, high, size)

    return window


def _with_follow_up(name: str, status: str, low: str) -> Window:
    def window(high: str, size: int) -> Select[Any]:
        return _all(low)(high, size).where(jobs.c[name] == status, NOT_DONE[name])

    return window


def _with_term(group: Sequence[bytes], low: str) -> Window:
    def window(high: str, size: int) -> Select[Any]:
        parts = [
            select(terms.c.job.label("id"))
            .where(terms.c.term == each, terms.c.job > low, terms.c.job < high)
            .order_by(terms.c.job.desc())
            .limit(size)
            for each in group
        ]
        if len(parts) == 1:
            return parts[0]
        return _united([part.subquery().c.id for part in parts], low, high, size)

    return window


def _united(columns: Sequence[ColumnElement[str]], low: str, high: str, size: int) -> Select[Any]:
    """Return the ids of several columns, each once."""
    known = union_all(*(select(column.label("id")) for column in columns)).subquery()
    chosen = select(known.c.id).where(known.c.id > low, known.c.id < high).distinct()
    return chosen.order_by(known.c.id.desc()).limit(size)


def _is_rare(connection: Connection, group: Sequence[bytes]) -> bool:
    some = select(terms.c.job).where(terms.c.term.in_(group)).limit(RARE_JOBS).subquery()
    number: int = connection.execute(select(func.count()).select_from(some)).scalar_one()
    return number < RARE_JOBS


def _are_rare(connection: Connection, numbers: list[int], high: str) -> bool:
    """Return whether some facets together have few jobs before an id."""
    some = select(jobs.c.id).where(jobs.c.facet.in_(numbers), jobs.c.id < high).limit(RARE_JOBS)
    counted = select(func.count()).select_from(some.subquery())
    number: int = connection.execute(counted).scalar_one()
    return number < RARE_JOBS


def _number_of_facets(connection: Connection, query: Query) -> int:
    counted = select(func.count()).select_from(facets).where(_is_facet(query))
    number: int = connection.execute(counted).scalar_one()
    return number


def _facet_numbers(connection: Connection, query: Query) -> list[int]:
    """Return the facets of the query."""
    return list(connection.execute(select(facets.c.id).where(_is_facet(query))).scalars())


def _is_facet(query: Query) -> ColumnElement[bool]:
    return and_(*(facets.c[name] == value for name, value in query.facet.items()))


def _merged_page(connection: Connection, query: Query, ids: Range, limit: int) -> FoundPage:
    """Merge the jobs of some facets. The other filters leave out few of them."""
    job_ids: list[str] = []
    rest = query.after is not None or query.before is not None
    rest = rest or query.at_risk is not None or query.unconfirmed is not None
    rest = rest or bool(query.follow_ups)
    high = ids.high
    for _ in range(MAX_WINDOWS):
        merged = _merged(connection, query, Range(ids.low, high), limit + 1)
        job_ids += _matching(connection, query, merged) if rest else merged
        if len(job_ids) > limit:
            return FoundPage(job_ids[:limit], job_ids[limit - 1])
        if len(merged) <= limit:
            return FoundPage(job_ids, None)
        high = merged[-1]
    return FoundPage(job_ids, high)


def _merged(connection: Connection, query: Query, ids: Range, size: int) -> list[str]:
    """Return the newest jobs of the facets of a query.

    Only the `size` facets whose newest jobs are the newest can have one of them. Of each, a few
    jobs are read. What is not older than the last job of a facet with more jobs is complete.
    """
    heads, low, high = _heads(connection, query, ids, size), ids.low, ids.high
    if len(heads) == size:
        low = max(low, _before(heads[-1][1]))
    chosen, job_ids, each = [number for number, _ in heads], list[str](), 0
    while chosen and len(job_ids) < size:
        each = max(4, 4 * size // len(chosen), 4 * each)
        lists = _newest(connection, chosen, Range(low, high), each)
        bound = max((part[-1] for part in lists.values() if len(part) == each), default="")
        job_ids += sorted((i for part in lists.values() for i in part if i >= bound), reverse=True)
        if not bound:
            break
        high = bound
    return job_ids[:size]


def _heads(connection: Connection, query: Query, ids: Range, size: int) -> list[tuple[int, str]]:
    """Return the facets with the newest jobs, and the newest job of each."""
    newest = (
        select(func.max(jobs.c.id))
        .where(jobs.c.facet == facets.c.id, jobs.c.id > ids.low, jobs.c.id < ids.high)
        .scalar_subquery()
    )
    known = select(facets.c.id, newest.label("head")).where(_is_facet(query)).subquery()
    chosen = select(known.c.id, known.c.head).where(known.c.head.is_not(None))
    rows = connection.execute(chosen.order_by(known.c.head.desc()).limit(size))
    return [(number, head) for number, head in rows]


def _before(job_id: str) -> str:
    """Return a text that sorts before a job id and after every earlier one."""
    return job_id[:-1] + chr(ord(job_id[-1]) - 1) + "~"


def _newest(
    connection: Connection, numbers: list[int], ids: Range, each: int
) -> dict[int, list[str]]:
    """Return the newest jobs of each facet, up to `each`."""
    job_ids: dict[int, list[str]] = {number: [] for number in numbers}
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    part = (
        f"SELECT * FROM (SELECT facet, id FROM jobs WHERE facet = {mark}"  # noqa: S608
        f" AND id > {mark} AND id < {mark} ORDER BY id DESC LIMIT {mark}) AS t"
    )
    for first in range(0, len(numbers), FACETS_OF_STATEMENT):
        some = numbers[first : first + FACETS_OF_STATEMENT]
        statement = " UNION ALL ".join([part] * len(some))
        values = tuple(value for number in some for value in (number, ids.low, ids.high, each))
        for number, job_id in connection.exec_driver_sql(statement, values):
            job_ids[number].append(job_id)
    return {number: sorted(part, reverse=True) for number, part in job_ids.items()}


def _matching(connection: Connection, query: Query, ids: list[str]) -> list[str]:
    """Return those of the jobs that match every filter, in the same order."""
    if not ids:
        return []
    chosen = select(jobs.c.id).where(jobs.c.id.in_(ids), *_conditions(query))
    if query.facet:
        chosen = chosen.join(facets, jobs.c.facet == facets.c.id)
    known = set(connection.execute(chosen).scalars())
    return [job_id for job_id in ids if job_id in known]
