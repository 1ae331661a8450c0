"""Jobs as callers see them: with what an open job waits for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.jobs.model import Job
from orchestrator.jobs.schemas import job_view, rfc3339
from orchestrator.runtime import Runtime


def current_view(runtime: Runtime, job: Job) -> dict[str, Any]:
    """Return a job as JSON-ready data, in the form of CurrentJobSchema.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    shown = job_view(job, runtime.settings.public_url)
    wait = runtime.ledger.admission.wait_of(job, now=runtime.clock())
    if wait:
        shown["waiting_for"] = wait.reason.value
        shown["next_attempt_at"] = rfc3339(wait.until)
    return shown


def current_views(runtime: Runtime, jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """Return jobs as `current_view` does."""
    return [current_view(runtime, job) for job in jobs]
