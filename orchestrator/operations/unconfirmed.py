"""Unconfirmed attempts: they may have been charged, and nobody knows their task."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from orchestrator.history import Entry, Query
from orchestrator.history.entry import facet_text
from orchestrator.jobs.model import Job
from orchestrator.jsonio import rfc3339
from orchestrator.operations.cost import expected_cost
from orchestrator.operations.search import find_entries, search
from orchestrator.runtime import Runtime

#: The most attempts that are read for a figure. There should be none.
MAX_ATTEMPTS = 1000


@dataclass(frozen=True, slots=True)
class UnconfirmedAttempt:
    """One unconfirmed attempt. `since` is ms.

    Attributes:
        job: None after the job has expired, or if this version cannot read it.
        is_unreadable: whether this version cannot read the job.
    """

    job_id: str
    attempt: int
    since: int
    job: Job | None
    is_unreadable: bool = False

    @property
    def provider(self) -> str | None:
        """The provider of the attempt, or None without the job."""
        return self.job.provider_of(self.attempt) if self.job else None

    def view(self) -> dict[str, Any]:
        """Return the attempt as JSON-ready data."""
        return {
            "job_id": self.job_id,
            "attempt": self.attempt,
            "since": rfc3339(self.since),
            "provider": self.provider,
            "model": self.job.request.at(self.provider).model
            if self.job and self.provider
            else None,
            "status": self.job.status if self.job else None,
        }


def unconfirmed_attempts(
    runtime: Runtime, limit: int = MAX_ATTEMPTS
) -> tuple[int, list[UnconfirmedAttempt]]:
    """Return the number of unconfirmed attempts, and the `limit` newest ones.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    number, entries = runtime.ledger.overview.unconfirmed(limit)
    jobs, unreadable = runtime.ledger.overview.readable_jobs([e.job_id for e in entries])
    lost = {each.job_id for each in unreadable}
    return number, [
        UnconfirmedAttempt(e.job_id, e.attempt, e.since, jobs.get(e.job_id), e.job_id in lost)
        for e in entries
    ]


def unconfirmed_jobs(
    runtime: Runtime, tenant: str | None, *, limit: int, cursor: str | None = None
) -> tuple[list[Entry], str | None, list[str]]:
    """Return a page of the jobs with unconfirmed attempts, newest first, and its cursor.

    Beside them are the ids of jobs that this version cannot read. They may have such attempts.

    Args:
        runtime: of this process.
        tenant: the owner of the jobs; None: all tenants.
        limit: the most jobs of the page.
        cursor: the cursor of the page before.

    Raises:
        LedgerUnavailable: Redis is away.
        HistoryUnavailable: the history does not answer.
    """
    facet = {"tenant": facet_text(tenant)} if tenant else {}
    query = Query(facet=facet, unconfirmed=True, now=runtime.clock())
    found = search(runtime, query, limit=limit, cursor=cursor)
    entries, lost = find_entries(runtime, [job.id for job in found.jobs])
    unreadable = [*found.unreadable, *(each.job_id for each in lost)]
    return [entries[job.id] for job in found.jobs if job.id in entries], found.cursor, unreadable


def tenant_attempts(runtime: Runtime, tenant: str) -> tuple[list[UnconfirmedAttempt], bool]:
    """Return the newest unconfirmed attempts of a tenant, and whether there may be more of them.

    At most MAX_ATTEMPTS jobs are read.

    Raises:
        LedgerUnavailable, HistoryUnavailable: as for `unconfirmed_jobs`.
    """
    entries, cursor, _ = unconfirmed_jobs(runtime, tenant, limit=MAX_ATTEMPTS)
    return [attempt for entry in entries for attempt in attempts_of(entry)], cursor is not None


def attempts_of(entry: Entry) -> list[UnconfirmedAttempt]:
    """Return the unconfirmed attempts of a job."""
    job = entry.job
    return [
        UnconfirmedAttempt(job.id, attempt.number, attempt.submitted_at, job)
        for attempt in job.attempts
        if attempt.number in entry.stored.unconfirmed
    ]


def possible_charges(runtime: Runtime, attempts: list[UnconfirmedAttempt]) -> dict[str, Any]:
    """Return the possible cost of attempts: sums by unit, and the number without a price."""
    sums: Counter[str] = Counter()
    unpriced = 0
    for entry in attempts:
        cost = expected_cost(runtime, entry.job, entry.provider) if entry.job else None
        if cost:
            sums[cost.unit] += cost.amount  # type: ignore[assignment]  # Counter counts floats too
        else:
            unpriced += 1
    return {
        "amounts": [{"unit": unit, "amount": round(sum_, 6)} for unit, sum_ in sums.items()],
        "unpriced": unpriced,
    }
