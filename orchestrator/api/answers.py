"""Answers of the API: a job, other JSON, or 404."""

from __future__ import annotations

from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound, ServiceUnavailable

from orchestrator.api.auth import caller
from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.model import Job
from orchestrator.jsonio import dump
from orchestrator.ledger import UnreadableJob, Waiting
from orchestrator.operations import search
from orchestrator.operations.current_jobs import current_view
from orchestrator.runtime import Runtime

#: What a caller does about an id that is not known.
CHECK = "check the id and the key"
#: The wait that a caller is told while the history does not answer. Seconds.
HISTORY_RETRY_SECONDS = 5


def find_job(runtime: Runtime, job_id: str) -> Job:
    """Return a job that the caller may see.

    Raises:
        NotFound: there is no such job, or it belongs to another tenant.
        UnreadableJob: this version cannot read it.
        ServiceUnavailable: the ledger has no such job, and the history does not answer.
    """
    try:
        return visible(search.find_job(runtime, job_id), job_id)
    except UnreadableJob as error:
        if not caller().sees(error.tenant):
            raise no_job(job_id) from None
        raise
    except HistoryUnavailable:
        raise ServiceUnavailable(
            f"the ledger has no job {job_id[:80]!r}, and the history does not answer;"
            " ask again later",
            retry_after=HISTORY_RETRY_SECONDS,
        ) from None


def visible(job: Job | None, job_id: str) -> Job:
    """Return the job, if the caller may see it.

    Raises:
        NotFound: there is no such job, or it belongs to another tenant. The answer is the same.
    """
    if job is None or not caller().sees(job.tenant):
        raise no_job(job_id)
    return job


def no_job(job_id: str) -> NotFound:
    """Return the error about a job that does not exist for the caller."""
    return NotFound(f"there is no job {job_id[:80]!r} that this key may see; {CHECK}")


def answer(
    runtime: Runtime,
    job: Job,
    status: int,
    headers: dict[str, str] | None = None,
    wait: Waiting | None = None,
) -> Response:
    """Return an answer with a job. `wait` is what it waits for; None: the ledger is asked."""
    return as_json(current_view(runtime, job, wait), status, headers)


def as_json(value: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an answer with JSON-ready data."""
    return Response(dump(value), status, headers, mimetype="application/json")
