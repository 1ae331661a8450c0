"""Bulk actions: previews one over the jobs of a search, and starts it.

A preview stores the ids of the jobs that it found and that the action applies to. The action works
on these jobs only, however long the caller thinks about the preview.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.enqueuing import TenantLimitReached
from orchestrator.history import HistoryUnavailable, NoHistory, Query
from orchestrator.jobs.model import Job
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jsonio import dump, rfc3339
from orchestrator.ledger import identifiers
from orchestrator.ledger.bulk import MAX_STARTED, BulkAction, BulkKind, BulkResult
from orchestrator.operations.bulk_figures import BulkFigures
from orchestrator.operations.callers import Caller
from orchestrator.operations.filters import (
    MAX_CHARACTERS,
    METADATA,
    check_number,
    read_query,
)
from orchestrator.operations.rerun import RETRIED, retries_of
from orchestrator.operations.search import Source, search
from orchestrator.runtime import Runtime

#: The most jobs of a bulk action.
MAX_JOBS = 100_000
#: The most jobs that may be named in the place of filters.
MAX_NAMED_JOBS = 200
#: Why an action does not apply to a job.
NO_SUCH_JOB = "there is no such job"
UNREADABLE = "it cannot be read; see: orchestrator verify"
#: The jobs of a page of the search. Only ids are read to count them.
PAGE_JOBS, PAGE_IDS = 500, 4000
#: Filters that are true or false.
_FLAGS = ("unconfirmed", "at_risk")
#: The wait that a tenant with too many running actions is told. Seconds.
RETRY_SECONDS = 30.0

#: Jobs, and the number of others that may match and that this version cannot read.
_Page = tuple[list[Job], int]


class UnknownBulkAction(Exception):
    """There is no such bulk action, or its preview has expired. The message names it."""

    def __init__(self, bulk_id: str) -> None:
        super().__init__(
            f"there is no bulk action {bulk_id[:80]!r}; a preview is kept for an hour, then make a"
            " new one"
        )


def preview(
    runtime: Runtime,
    kind: BulkKind,
    filters: Mapping[str, Any],
    *,
    actor: str,
    accept_risk: bool = False,
    named: Sequence[str] = (),
) -> BulkAction:
    """Find the jobs of a bulk action and store their ids. Nothing else happens to them.

    Args:
        runtime: of this process.
        kind: what the action will do.
        filters: names and values of FILTERS.
        actor: who asks.
        accept_risk: also count jobs that may have been charged as jobs to retry.
        named: the ids of the jobs, in the place of a search. Then the only filter may be `tenant`.

    Raises:
        InvalidRequest: a filter is wrong, or there are more than MAX_JOBS jobs.
        HistoryUnavailable: the history does not answer, so jobs would be missing.
        LedgerUnavailable: Redis is away.
    """
    now = runtime.clock()
    figures = _figures(runtime, kind, filters, tuple(dict.fromkeys(named)))
    action = BulkAction(
        identifiers.new_bulk_id(now),
        kind,
        filters.get("tenant"),
        filters,
        figures.view(),
        total=figures.total,
        applies=len(figures.job_ids),
        actor=actor,
        created_at=now,
        accept_risk=accept_risk,
        refused=figures.refused,
        named=tuple(dict.fromkeys(named)),
    )
    # The search finds the newest jobs first. The oldest ones come first here.
    runtime.ledger.bulk.save(action, figures.job_ids[::-1])
    return action


def start(
    runtime: Runtime, action: BulkAction, *, actor: str, accept_risk: bool
) -> tuple[BulkAction, bool]:
    """Start a bulk action that was previewed. The workers act on its jobs.

    Args:
        runtime: of this process.
        action: from `preview`.
        actor: who asks, for the audit trail.
        accept_risk: also retry jobs that may have been charged.

    Returns:
        The action, and whether an earlier call started it.

    Raises:
        UnknownBulkAction: the preview has expired.
        TenantLimitReached: too many actions of the tenant run.
        LedgerUnavailable: Redis is away.
    """
    now = runtime.clock()
    result = runtime.ledger.bulk.start(action, actor=actor, accept_risk=accept_risk, now=now)
    if result is BulkResult.LIMITED:
        text = f"{MAX_STARTED} running bulk actions; try again when one ends"
        raise TenantLimitReached(action.tenant or "of everything", "bulk", RETRY_SECONDS, text)
    started = runtime.ledger.bulk.get(action.id)
    if result is BulkResult.MISSING or started is None:
        raise UnknownBulkAction(action.id)
    return started, result is BulkResult.REPLAYED


def stop(runtime: Runtime, bulk_id: str, *, actor: str) -> BulkAction:
    """Stop a bulk action. What was done to its jobs stays done. Return the action.

    A worker that acts on jobs of it ends within a second. An action that has ended stays as it is.

    Raises:
        UnknownBulkAction: there is none, it has expired, or it was not started.
        LedgerUnavailable: Redis is away.
    """
    action = find(runtime, bulk_id)
    result = runtime.ledger.bulk.stop(action, actor=actor, now=runtime.clock())
    if result is BulkResult.MISSING:
        raise UnknownBulkAction(bulk_id)
    return find(runtime, bulk_id)


def find(runtime: Runtime, bulk_id: str, caller: Caller | None = None) -> BulkAction:
    """Return a bulk action that a caller may see. None: everybody's.

    Raises:
        UnknownBulkAction: there is none, it has expired, or it belongs to another tenant.
        LedgerUnavailable: Redis is away.
    """
    action = runtime.ledger.bulk.get(bulk_id)
    if action is None:
        raise UnknownBulkAction(bulk_id)
    if caller and not caller.admin and action.tenant != caller.tenant:
        raise UnknownBulkAction(bulk_id)
    return action


def bulk_view(action: BulkAction) -> dict[str, Any]:
    """Return a bulk action as JSON-ready data."""
    refused = sorted(action.refused.items(), key=lambda each: (-each[1], each[0]))
    return {
        "id": action.id,
        "action": action.kind,
        "state": action.state,
        "filter": dict(action.filters),
        "jobs": list(action.named) or None,
        "tenant": action.tenant,
        "accept_risk": action.accept_risk,
        "asked_by": action.actor,
        "created_at": rfc3339(action.created_at),
        "started_at": rfc3339(action.started_at),
        "finished_at": rfc3339(action.finished_at),
        "stopped_by": action.stopped_by,
        "total": action.total,
        "applies_to": applies_to(action),
        "done": action.done,
        "refused": [{"reason": reason, "jobs": number} for reason, number in refused],
        "waiting_for": action.waits_for,
        **action.figures,
    }


def applies_to(action: BulkAction) -> int:
    """Return the number of jobs that the action applied to when it was previewed."""
    if action.kind is not BulkKind.RETRY or action.accept_risk:
        return action.applies
    return action.applies - int(action.figures["may_be_paid"])


def _figures(
    runtime: Runtime, kind: BulkKind, filters: Mapping[str, Any], named: Sequence[str]
) -> BulkFigures:
    """Return the figures of the named jobs, or of those that the filters find."""
    figures, query = BulkFigures(runtime, kind), _query(runtime, filters)
    too_many = Violation("filter", dict(filters), f"narrower: it finds more than {MAX_JOBS} jobs")
    if named:
        pages = iter([_named(runtime, named, query.facet.get("tenant"))])
    elif _has_too_many(runtime, query):
        raise InvalidRequest(too_many)
    else:
        pages = _pages(runtime, query)
    for jobs, unreadable in pages:
        retried = retries_of(runtime, jobs) if kind is BulkKind.RETRY else {}
        for job in jobs:
            is_retried = kind is BulkKind.RETRY and (job.retried_as or job.id in retried)
            figures.add(job, RETRIED if is_retried else None)
        figures.refuse(UNREADABLE, unreadable)
        if figures.total > MAX_JOBS:
            raise InvalidRequest(too_many)
    figures.refuse(NO_SUCH_JOB, len(named) - figures.total if named else 0)
    return figures


def _named(runtime: Runtime, job_ids: Sequence[str], tenant: str | None) -> _Page:
    """Return jobs of a tenant (None: all), newest first. Unknown ones are missing."""
    known, unreadable = runtime.ledger.overview.readable_jobs(list(job_ids))
    lost = {each.job_id for each in unreadable}
    try:
        forgotten = [job_id for job_id in job_ids if job_id not in known and job_id not in lost]
        entries = runtime.history.entries(forgotten) if forgotten else {}
        known |= {job_id: entry.job for job_id, entry in entries.items()}
    except NoHistory:
        pass
    found = (known[job_id] for job_id in sorted(known, reverse=True))
    jobs = [job for job in found if tenant in (None, job.tenant)]
    return jobs, sum(tenant in (None, each.tenant) for each in unreadable)


def _query(runtime: Runtime, filters: Mapping[str, Any]) -> Query:
    """Return the query of filters whose values may be JSON.

    Raises:
        InvalidRequest: with every filter that is unknown or has a wrong value.
    """
    check_number(len(filters))
    wrong: list[Violation] = []
    given: list[tuple[str, Any]] = []
    for name, value in filters.items():
        if len(name) > MAX_CHARACTERS:
            wrong.append(Violation(name[:80], value, f"at most {MAX_CHARACTERS} characters long"))
        elif name in _FLAGS and not isinstance(value, bool):
            wrong.append(Violation(name, value, "true or false"))
        elif name.startswith(METADATA) and isinstance(value, bool | int | float):
            given.append((name, dump(value).decode()))
        elif not isinstance(value, str | bool):
            wrong.append(Violation(name, value, "text"))
        else:
            given.append((name, value))
    if wrong:
        raise InvalidRequest(*wrong)
    return read_query(runtime, given)


def _has_too_many(runtime: Runtime, query: Query) -> bool:
    """Return whether the history alone has too many jobs. It reads ids only, so it ends soon."""
    found, below = 0, None
    try:
        while found <= MAX_JOBS:
            page = runtime.history.find(query, below=below, limit=PAGE_IDS)
            found, below = found + len(page.ids), page.cursor
            if below is None:
                return found > MAX_JOBS
    except HistoryUnavailable:
        return False  # the search says what this means
    return True


def _pages(runtime: Runtime, query: Query) -> Iterator[_Page]:
    """Yield the jobs of a query in pages, newest first."""
    cursor = None
    while True:
        page = search(runtime, query, limit=PAGE_JOBS, cursor=cursor)
        if page.source is Source.AWAY:
            raise HistoryUnavailable("a bulk action cannot find its jobs while the history is away")
        yield page.jobs, len(page.unreadable)
        cursor = page.cursor
        if cursor is None:
            return
