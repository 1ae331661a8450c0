"""Answers of the API: a job, other JSON, or 404."""

from __future__ import annotations

from typing import Any

from flask import Response
from werkzeug.exceptions import NotFound

from orchestrator.jobs.model import Job
from orchestrator.jobs.schemas import job_view
from orchestrator.jsonio import dump
from orchestrator.runtime import Runtime


def existing(job: Job | None, job_id: str) -> Job:
    """Return the job.

    Raises:
        NotFound: there is no such job.
    """
    if job is None:
        raise NotFound(f"there is no job {job_id[:80]!r}; jobs are kept for the retention time")
    return job


def answer(
    runtime: Runtime, job: Job, status: int, headers: dict[str, str] | None = None
) -> Response:
    """Return an answer with a job."""
    return as_json(job_view(job, runtime.settings.public_url), status, headers)


def as_json(value: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an answer with JSON-ready data."""
    return Response(dump(value), status, headers, mimetype="application/json")
