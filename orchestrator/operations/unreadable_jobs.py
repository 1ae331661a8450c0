"""What lists and answers say of a job that this version cannot read."""

from __future__ import annotations

from collections.abc import Iterable

#: What an operator does about it.
NEXT_STEP = (
    "Run `orchestrator verify`, which names every such job; docs/failures.md has the correction: A"
    " job cannot be read."
)
#: The same, for somebody who may not be the operator.
DETAIL = (
    "The job is in the ledger, and this version cannot read it. Its operator runs `orchestrator"
    " verify`, and finds the correction in docs/failures.md: A job cannot be read."
)


def unreadable_views(job_ids: Iterable[str]) -> list[dict[str, str]]:
    """Return jobs that cannot be read as JSON-ready data, in the form of UnreadableJobSchema."""
    return [{"id": job_id, "detail": DETAIL} for job_id in job_ids]


def unreadable_line(job_ids: list[str]) -> str:
    """Return one line about jobs that cannot be read."""
    return f"Cannot be read: {', '.join(job_ids)}. {NEXT_STEP}"
