"""`/v1/jobs`: enqueue a job, look at it, wait for it, read its timeline."""

from __future__ import annotations

import math
import threading
from io import BytesIO
from typing import Any

from flask import Response, g, request
from flask_smorest import Blueprint
from marshmallow import Schema, fields
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import (
    BadRequest,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)
from werkzeug.formparser import parse_form_data

from orchestrator.api.auth import require_key
from orchestrator.enqueue import place
from orchestrator.jobs import Job
from orchestrator.runtime import Runtime
from orchestrator.schemas import EventSchema, JobRequestSchema, JobSchema, event_view, job_view
from orchestrator.uploads import ImageFile
from orchestrator.validation import InvalidRequest, Violation
from orchestrator.wire import NotJson, dump, parse

#: The longest that `?wait=` holds a request. Seconds.
MAX_WAIT = 60.0
#: How many requests of one process may wait at once: each holds a thread that callbacks need too.
#: The one over it is answered at once, with `Retry-After`.
MAX_WAITING = 4


FORM = "multipart/form-data"
#: What a form may hold: the request as JSON, and the file.
FORM_PARTS = ("job", "image_file")


class WaitSchema(Schema):
    """The query of `GET /v1/jobs/{id}`."""

    wait = fields.Float(
        metadata={"description": f"Hold the answer until the job is terminal; 0 to {MAX_WAIT:g} s."}
    )


class JobFormSchema(Schema):
    """A job with a file: `job` is the request as JSON, `image_file` a PNG, JPEG or WebP image."""

    job = fields.Nested(JobRequestSchema, required=True)
    image_file = fields.Raw(
        required=True, metadata={"type": "string", "contentMediaType": "application/octet-stream"}
    )


class EventsSchema(Schema):
    """A job's timeline, oldest first."""

    events = fields.List(fields.Nested(EventSchema))


def blueprint(parts: Runtime) -> Blueprint:
    """The routes, on these parts."""
    jobs = Blueprint("jobs", __name__, url_prefix="/v1/jobs", description="Image jobs")
    waiting = threading.BoundedSemaphore(MAX_WAITING)

    @jobs.before_request
    def authenticate() -> None:
        require_key(parts.settings.api_keys)

    @jobs.post("")
    @jobs.doc(
        security=[{"bearer": []}],
        requestBody={
            "required": True,
            "content": {
                "application/json": {"schema": JobRequestSchema},
                FORM: {"schema": JobFormSchema},
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
        body, file = _form(parts) if request.mimetype == FORM else (_body(), None)
        placed = place(parts, body, scope=f"api:{g.caller}", key=key, file=file)
        if placed.replayed:
            return _job(placed.job, 200, {"Idempotent-Replay": "true"})
        return _job(placed.job, 202, {"Location": f"/v1/jobs/{placed.job.id}"})

    @jobs.get("/<job_id>")
    @jobs.doc(security=[{"bearer": []}])
    @jobs.alt_response(200, schema=JobSchema, description="The job as it stands")
    def show(job_id: str) -> Response:
        """Look at a job; `?wait=30` holds the answer until it is terminal or 30 s have passed."""
        seconds = _wait(request.args.get("wait"))
        if not seconds:
            return _job(_found(parts.ledger.get(job_id), job_id), 200)
        if not waiting.acquire(blocking=False):
            job = _found(parts.ledger.get(job_id), job_id)
            return _job(job, 200, {} if job.status.terminal else {"Retry-After": "1"})
        try:
            return _job(_found(parts.ledger.wait(job_id, seconds), job_id), 200)
        finally:
            waiting.release()

    @jobs.get("/<job_id>/events")
    @jobs.doc(security=[{"bearer": []}])
    @jobs.alt_response(200, schema=EventsSchema, description="The timeline")
    def events(job_id: str) -> Response:
        """Read a job's timeline."""
        timeline = parts.ledger.events(job_id)
        if not timeline:
            _found(parts.ledger.get(job_id), job_id)
        return _json({"events": [event_view(event) for event in timeline]}, 200)

    return jobs


def _form(parts: Runtime) -> tuple[dict[str, Any], ImageFile]:
    """The request and the file of a multipart form.

    Raises:
        RequestEntityTooLarge, BadRequest, InvalidRequest: it is none.
    """
    texts, files = _form_parts(parts.settings.max_upload_bytes)
    for name in (*texts, *files):
        if name not in FORM_PARTS:
            allowed = f"a known part: {', '.join(FORM_PARTS)}"
            raise InvalidRequest(Violation(name, "a form part", allowed))
    images = files.getlist("image_file")
    if len(images) != 1:
        allowed = "one file, as the form part image_file"
        raise InvalidRequest(Violation("image_file", f"{len(images)} files", allowed))
    job = files["job"].stream.read() if "job" in files else texts.get("job", "").encode()
    return _parsed(job), ImageFile(images[0].filename or "image", images[0].stream.read())


def _form_parts(most: int) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    room = request.max_content_length or 0
    try:
        _, texts, files = parse_form_data(
            request.environ,
            stream_factory=lambda *_, **__: BytesIO(),  # in memory: the limits bound it
            max_form_memory_size=room,
            max_content_length=room + most,
            max_form_parts=len(FORM_PARTS) + 1,
            silent=False,
        )
    except ValueError as error:
        raise BadRequest(f"the body is not a multipart form: {error}") from None
    return texts, files


def _body() -> dict[str, Any]:
    """The request's JSON object.

    Raises:
        UnsupportedMediaType, RequestEntityTooLarge, BadRequest, InvalidRequest: it is none.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType(
            f"Content-Type is {request.mimetype or 'not set'!r};"
            f" allowed: application/json, or {FORM} with a file"
        )
    data = request.get_data(cache=False)
    if request.content_length is None and len(data) >= (request.max_content_length or math.inf):
        raise RequestEntityTooLarge  # chunked, and cut off
    return _parsed(data)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        body = parse(data)
    except NotJson as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequest(Violation("body", body, "a JSON object"))
    return body


def _wait(text: str | None) -> float:
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT:
        raise InvalidRequest(Violation("wait", text, f"a number of seconds from 0 to {MAX_WAIT:g}"))
    return seconds


def _found(job: Job | None, job_id: str) -> Job:
    if job is None:
        raise NotFound(
            f"there is no job {job_id[:80]!r}; done jobs are kept for the retention time"
        )
    return job


def _job(job: Job, status: int, headers: dict[str, str] | None = None) -> Response:
    return _json(job_view(job), status, headers)


def _json(value: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(dump(value), status, headers, mimetype="application/json")
