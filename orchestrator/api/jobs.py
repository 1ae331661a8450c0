"""`/v1/jobs`: enqueue a job, look at it, wait for it, list jobs."""

from __future__ import annotations

import threading

from flask import Response, g, request
from flask_smorest import Blueprint
from marshmallow import Schema, fields

from orchestrator.api import incoming
from orchestrator.api.answers import answer, as_json, existing
from orchestrator.api.auth import require_key
from orchestrator.enqueue import REQUEST_SCHEMA, create_job
from orchestrator.jobs.model import Status
from orchestrator.jobs.schemas import EventSchema, JobSchema, event_view, job_view
from orchestrator.runtime import Runtime

#: How many requests of one process may wait at once: each holds a thread that callbacks need too.
#: The one over it is answered at once, with `Retry-After`.
MAX_WAITING = 4
WAIT = f"Hold the answer until the job is terminal; 0 to {incoming.MAX_WAIT:g} seconds."


class JobFormSchema(Schema):
    """A job with a file: `job` is the request as JSON, `image_file` a PNG, JPEG or WebP image."""

    job = fields.Nested(REQUEST_SCHEMA, required=True)
    image_file = fields.Raw(
        required=True, metadata={"type": "string", "contentMediaType": "application/octet-stream"}
    )


class JobsSchema(Schema):
    """A page of jobs; `next_cursor` is null on the last one."""

    jobs = fields.List(fields.Nested(JobSchema))
    next_cursor = fields.String(allow_none=True)


class EventsSchema(Schema):
    """A job's timeline, oldest first."""

    events = fields.List(fields.Nested(EventSchema))


def blueprint(runtime: Runtime) -> Blueprint:
    """The routes, on these runtime."""
    jobs = Blueprint("jobs", __name__, url_prefix="/v1/jobs", description="Image jobs")
    waiting = threading.BoundedSemaphore(MAX_WAITING)

    @jobs.before_request
    def authenticate() -> None:
        require_key(runtime.settings.api_keys)

    @jobs.post("")
    @jobs.doc(
        security=[{"bearer": []}],
        requestBody={
            "required": True,
            "content": {
                "application/json": {"schema": REQUEST_SCHEMA},
                incoming.FORM: {"schema": JobFormSchema},
            },
        },
        parameters=[{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}],
    )
    @jobs.alt_response(
        200, schema=JobSchema, description="The job this Idempotency-Key made before"
    )
    @jobs.alt_response(202, schema=JobSchema, description="The job, queued")
    def create() -> Response:
        """Enqueue a job."""
        key = request.headers.get("Idempotency-Key")
        body, file = (
            incoming.form(runtime) if request.mimetype == incoming.FORM else (incoming.body(), None)
        )
        placed = create_job(runtime, body, scope=f"api:{g.caller}", key=key, file=file)
        if placed.replayed:
            return answer(runtime, placed.job, 200, {"Idempotent-Replay": "true"})
        return answer(runtime, placed.job, 202, {"Location": f"/v1/jobs/{placed.job.id}"})

    @jobs.get("/<job_id>")
    @jobs.doc(security=[{"bearer": []}], parameters=[incoming.query("wait", WAIT)])
    @jobs.alt_response(200, schema=JobSchema, description="The job as it stands")
    def show(job_id: str) -> Response:
        """Look at a job; `?wait=30` holds the answer until it is terminal or 30 s have passed."""
        seconds = incoming.wait()
        if not seconds:
            return answer(runtime, existing(runtime.ledger.get(job_id), job_id), 200)
        if not waiting.acquire(blocking=False):
            job = existing(runtime.ledger.get(job_id), job_id)
            return answer(runtime, job, 200, {} if job.status.terminal else {"Retry-After": "1"})
        try:
            return answer(runtime, existing(runtime.ledger.wait(job_id, seconds), job_id), 200)
        finally:
            waiting.release()

    @jobs.get("")
    @jobs.doc(
        security=[{"bearer": []}],
        parameters=[
            incoming.query("status", "Only jobs in this status.", [s.value for s in Status]),
            incoming.query("provider", "Only jobs of this provider.", list(runtime.providers)),
            incoming.query("limit", f"How many at most; 1 to {incoming.MAX_PAGE}."),
            incoming.query("cursor", "Continue after the page that gave this `next_cursor`."),
        ],
    )
    @jobs.alt_response(200, schema=JobsSchema, description="A page of jobs, newest first")
    def browse() -> Response:
        """List jobs, newest first; a page may hold fewer than `limit` and still have a next one."""
        status = incoming.one_of("status", [s.value for s in Status])
        page = runtime.ledger.overview.page(
            incoming.limit(),
            cursor=incoming.cursor(),
            status=Status(status) if status else None,
            provider=incoming.one_of("provider", list(runtime.providers)),
        )
        return as_json(
            {
                "jobs": [job_view(job, runtime.settings.public_url) for job in page.jobs],
                "next_cursor": page.cursor,
            },
            200,
        )

    @jobs.get("/<job_id>/events")
    @jobs.doc(security=[{"bearer": []}])
    @jobs.alt_response(200, schema=EventsSchema, description="The timeline")
    def events(job_id: str) -> Response:
        """Read a job's timeline."""
        timeline = runtime.ledger.events(job_id)
        if not timeline:
            existing(runtime.ledger.get(job_id), job_id)
        return as_json({"events": [event_view(event) for event in timeline]}, 200)

    return jobs
