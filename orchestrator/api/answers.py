"""What the API answers with: a job, other JSON, or that there is no such job."""

from __future__ import annotations

from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound

from orchestrator.jobs import Job
from orchestrator.runtime import Runtime
from orchestrator.wire import dump


def existing(job: Job | None, job_id: str) -> Job:
    """The job that was found.

    Raises:
        NotFound: there is none.
    """
    if job is None:
        raise NotFound(
            f"there is no job {job_id[:80]!r}; done jobs are kept for the retention time"
        )
    return job


def answer(
    parts: Runtime, job: Job, status: int, headers: dict[str, str] | None = None
) -> Response:
    """A job as callers see it."""
    return as_json(parts.view(job), status, headers)


def as_json(value: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    """JSON-ready data."""
    return Response(dump(value), status, headers, mimetype="application/json")
