"""Finds a page of jobs. Its cost depends on the length of the page, not on the number of jobs.

The newest jobs come first. A **driver** yields ids in this order from one index:

- the jobs of a few facets, merged;
- the jobs of a term;
- the unconfirmed jobs, or those with an image at risk;
- all jobs.

The other filters are applied to what the driver yields, in windows. After `MAX_WINDOWS` windows the
page ends, and its cursor continues there. So a page may have fewer jobs than its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, or_, select, text, union_all

from orchestrator.history.query import Query
from orchestrator.history.schema import facets, jobs, terms
from orchestrator.ledger import keys

#: The jobs of a window, and the most windows of a page.
WINDOW_JOBS, MAX_WINDOWS = 500, 8
#: A term with fewer jobs than this is the driver.
NARROW_TERM_JOBS = 2000
#: With more facets than this, all jobs are the driver.
MAX_FACETS = 2000
#: The facets of one statement. SQLite allows 500.
FACETS_OF_STATEMENT = 200
#: The most jobs with an image at risk that a search looks at.
MAX_AT_RISK = 20_000

Driver = Callable[[str, int], list[str]]


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Ids of a page, newest first. `cursor` continues after it; None: it is the last one."""

    ids: list[str]
    cursor: str | None


def find_page(
    connection: Connection, query: Query, *, below: str | None, above: str | None, limit: int
) -> FoundPage:
    """Return the newest matching jobs with `above` < id < `below`."""
    low, high = max(above or "", query.above), min(below or keys.LAST_ID, query.below)
    if query.job_id:
        ids = [query.job_id] if low < query.job_id < high else []
        return FoundPage(_matching(connection, query, ids), None)
    numbers = _facet_numbers(connection, query)
    if numbers is not None and not numbers:
        return FoundPage([], None)
    found: list[str] = []
    driver, exact = _driver(connection, query, numbers, low)
    for _ in range(MAX_WINDOWS):
        size = limit + 1 if exact else max(WINDOW_JOBS, limit + 1)
        ids = driver(high, size)
        found += ids if exact else _matching(connection, query, ids)
        if len(found) > limit:
            return FoundPage(found[:limit], found[limit - 1])
        if len(ids) < size:
            return FoundPage(found, None)
        high = ids[-1]
    return FoundPage(found, high)


def _driver(
    connection: Connection, query: Query, numbers: list[int] | None, low: str
) -> tuple[Driver, bool]:
    """Return the driver of a query, and whether what it yields needs no other filter."""

    def simple(statement: Callable[[str, int], Select[Any]]) -> Driver:
        return lambda high, size: list(connection.execute(statement(high, size)).scalars())

    timed = query.after is not None or query.before is not None
    flagged = query.unconfirmed is not None or query.at_risk is not None
    if query.at_risk or query.unconfirmed:
        return simple(lambda high, size: _flagged(query, low, high, size)), False
    narrow = next((g for g in query.terms if _is_narrow(connection, g)), None)
    if narrow or (query.terms and numbers is None):
        group = narrow or query.terms[0]
        alone = not (numbers or timed or flagged) and len(query.terms) == 1
        return simple(lambda high, size: _with_term(group, low, high, size)), alone
    others = bool(query.terms) or timed or flagged
    if numbers is not None and len(numbers) <= MAX_FACETS:
        return (lambda high, size: _merged(connection, numbers, low, high, size)), not others
    return simple(lambda high, size: _all(low, high, size)), not others and numbers is None


def _all(low: str, high: str, size: int) -> Select[Any]:
    chosen = select(jobs.c.id).where(jobs.c.id > low, jobs.c.id < high)
    return chosen.order_by(jobs.c.id.desc()).limit(size)


def _flagged(query: Query, low: str, high: str, size: int) -> Select[Any]:
    if query.unconfirmed:
        return _all(low, high, size).where(jobs.c.unconfirmed.is_(True))
    parts = (
        select(jobs.c.id).where(jobs.c.expiring_at <= query.now + query.risk_ms).limit(MAX_AT_RISK),
        select(jobs.c.id).where(jobs.c.given_up_until > query.now).limit(MAX_AT_RISK),
    )
    known = union_all(*(select(part.subquery().c.id) for part in parts)).subquery()
    chosen = select(known.c.id).where(known.c.id > low, known.c.id < high).distinct()
    return chosen.order_by(known.c.id.desc()).limit(size)


def _with_term(group: Sequence[bytes], low: str, high: str, size: int) -> Select[Any]:
    parts = [
        select(terms.c.job)
        .where(terms.c.term == each, terms.c.job > low, terms.c.job < high)
        .order_by(terms.c.job.desc())
        .limit(size)
        .subquery()
        for each in group
    ]
    known = union_all(*(select(part.c.job) for part in parts)).subquery()
    return select(known.c.job).distinct().order_by(known.c.job.desc()).limit(size)


def _is_narrow(connection: Connection, group: Sequence[bytes]) -> bool:
    number = 0
    for each in group:
        some = select(terms.c.job).where(terms.c.term == each).limit(NARROW_TERM_JOBS).subquery()
        number += connection.execute(select(func.count()).select_from(some)).scalar_one()
    return number < NARROW_TERM_JOBS


def _facet_numbers(connection: Connection, query: Query) -> list[int] | None:
    """Return the facets of the query, or None if it does not filter by them."""
    if not query.facet:
        return None
    same = and_(*(facets.c[name] == value for name, value in query.facet.items()))
    return list(connection.execute(select(facets.c.id).where(same)).scalars())


def _merged(
    connection: Connection, numbers: list[int], low: str, high: str, size: int
) -> list[str]:
    """Return the newest jobs of some facets.

    Only the `size` facets whose newest jobs are the newest can have one of them. Of each, a few
    jobs are read. What is not older than the last job of a facet with more jobs is complete.
    """
    heads = _heads(connection, numbers, low, high, size)
    if len(heads) == size:
        low = max(low, _before(heads[-1][1]))
    chosen, found, each = [number for number, _ in heads], list[str](), 0
    while chosen and len(found) < size:
        each = max(4, 4 * size // len(chosen), 4 * each)
        lists = _newest(connection, chosen, low, high, each)
        bound = max((ids[-1] for ids in lists.values() if len(ids) == each), default="")
        found += sorted((i for ids in lists.values() for i in ids if i >= bound), reverse=True)
        if not bound:
            break
        high = bound
    return found[:size]


def _heads(
    connection: Connection, numbers: list[int], low: str, high: str, size: int
) -> list[tuple[int, str]]:
    """Return the facets with the newest jobs, and the newest job of each."""
    newest = (
        select(func.max(jobs.c.id))
        .where(jobs.c.facet == facets.c.id, jobs.c.id > low, jobs.c.id < high)
        .scalar_subquery()
    )
    found: list[tuple[int, str]] = []
    for first in range(0, len(numbers), WINDOW_JOBS):
        some = facets.c.id.in_(numbers[first : first + WINDOW_JOBS])
        rows = connection.execute(select(facets.c.id, newest).where(some))
        found += [(number, head) for number, head in rows if head is not None]
    return sorted(found, key=lambda pair: pair[1], reverse=True)[:size]


def _before(job_id: str) -> str:
    """Return a text that sorts before a job id and after every earlier one."""
    return job_id[:-1] + chr(ord(job_id[-1]) - 1) + "~"


def _newest(
    connection: Connection, numbers: list[int], low: str, high: str, each: int
) -> dict[int, list[str]]:
    """Return the newest jobs of each facet, up to `each`."""
    found: dict[int, list[str]] = {number: [] for number in numbers}
    for first in range(0, len(numbers), FACETS_OF_STATEMENT):
        parts = (
            f"SELECT * FROM (SELECT facet, id FROM jobs WHERE facet = {int(number)}"  # noqa: S608
            " AND id > :low AND id < :high ORDER BY id DESC LIMIT :each) AS t"
            for number in numbers[first : first + FACETS_OF_STATEMENT]
        )
        statement = text(" UNION ALL ".join(parts))
        for number, job_id in connection.execute(
            statement, {"low": low, "high": high, "each": each}
        ):
            found[number].append(job_id)
    return {number: sorted(ids, reverse=True) for number, ids in found.items()}


def _matching(connection: Connection, query: Query, ids: list[str]) -> list[str]:
    """Return those of the jobs that match every filter, in the same order."""
    if not ids:
        return []
    chosen = select(jobs.c.id).join(facets, jobs.c.facet == facets.c.id).where(jobs.c.id.in_(ids))
    for name, value in query.facet.items():
        chosen = chosen.where(facets.c[name] == value)
    for group in query.terms:
        has = exists().where(terms.c.term.in_(group), terms.c.job == jobs.c.id)
        chosen = chosen.where(has)
    if query.after is not None:
        chosen = chosen.where(jobs.c.created_at >= query.after)
    if query.before is not None:
        chosen = chosen.where(jobs.c.created_at < query.before)
    if query.unconfirmed is not None:
        chosen = chosen.where(jobs.c.unconfirmed.is_(query.unconfirmed))
    if query.at_risk is not None:
        risk = or_(
            func.coalesce(jobs.c.expiring_at <= query.now + query.risk_ms, False),
            func.coalesce(jobs.c.given_up_until > query.now, False),
        )
        chosen = chosen.where(risk if query.at_risk else ~risk)
    known = set(connection.execute(chosen).scalars())
    return [job_id for job_id in ids if job_id in known]
