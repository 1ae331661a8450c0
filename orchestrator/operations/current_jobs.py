"""Jobs as callers see them: with what an open job waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.model import Job
from orchestrator.jobs.views import job_view
from orchestrator.jsonio import rfc3339
from orchestrator.ledger import Waiting
from orchestrator.operations.rerun import with_retries
from orchestrator.runtime import Runtime
from orchestrator.step_loop import in_thread


def current_view(runtime: Runtime, job: Job, wait: Waiting | None = None) -> dict[str, Any]:
    """Return a job as JSON-ready data, in the form of CurrentJobSchema.

    Args:
        runtime: of this process.
        job: the job.
        wait: what it waits for; None: the ledger is asked.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    return current_views(runtime, [job], {job.id: wait} if wait else {})[0]


def current_views(
    runtime: Runtime, jobs: Sequence[Job], known: Mapping[str, Waiting] = {}
) -> list[dict[str, Any]]:
    """Return jobs as `current_view` does. `known` has what some of them wait for, by their ids."""
    others, ask = [job for job in jobs if job.id not in known], runtime.ledger.admission.waits
    waits = in_thread(ask, others, now=runtime.clock()) if others else {}
    shown = _with_retries(runtime, jobs)
    return [_view(runtime, job, known.get(job.id) or waits.get(job.id)) for job in shown]


def _with_retries(runtime: Runtime, jobs: Sequence[Job]) -> Sequence[Job]:
    """Return the jobs with their retries. Forgotten ones have none while the history is away."""
    try:
        return with_retries(runtime, jobs)
    except HistoryUnavailable:
        return jobs


def _view(runtime: Runtime, job: Job, wait: Waiting | None) -> dict[str, Any]:
    shown = job_view(job, runtime.settings.public_url)
    if wait:
        shown["waiting_for"] = wait.reason.value
        shown["next_attempt_at"] = rfc3339(wait.until)
    return shown
