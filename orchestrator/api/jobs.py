"""`/v1/jobs`: enqueue, get, wait for and list jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import Schema, fields

from orchestrator import tracing
from orchestrator.api import holds, incoming
from orchestrator.api.answers import answer, as_json, find_job
from orchestrator.api.auth import caller, chosen_tenant
from orchestrator.api.filters import filter_schemas
from orchestrator.api.openapi import JSON, header, operation, page_parameters, query
from orchestrator.enqueuing import API_SCOPE, EnqueueResult, create_job
from orchestrator.job_check import REQUEST_SCHEMA
from orchestrator.jobs.answer_schemas import AnswerSchema, CurrentJobSchema, EventSchema
from orchestrator.jobs.tenant import TENANT_PATTERN
from orchestrator.jobs.views import event_view
from orchestrator.ledger.identifiers import JOB_ID
from orchestrator.ledger.keys import settled
from orchestrator.operations.current_jobs import current_views
from orchestrator.operations.filters import FILTERS, read_query
from orchestrator.operations.search import Source, job_timeline, search
from orchestrator.operations.unreadable_jobs import unreadable_views
from orchestrator.runtime import Runtime

WAIT = query(
    "wait",
    "Wait until the job has its outcome, for at most this many seconds.",
    type="number",
    minimum=0,
    maximum=incoming.MAX_WAIT_SECONDS,
)
IDEMPOTENCY_KEY = header("Idempotency-Key", "Makes the call safe to repeat.")
TENANT_FILTER = query(
    "tenant", "Only jobs of this tenant; for administrators.", pattern=TENANT_PATTERN
)

Route = Callable[..., Response]


class JobFormSchema(Schema):
    """A job with a file: `job` is the request as JSON, `image_file` a PNG, JPEG or WebP image."""

    job = fields.Nested(REQUEST_SCHEMA, required=True)
    image_file = fields.Raw(
        required=True, metadata={"type": "string", "contentMediaType": "application/octet-stream"}
    )


class UnreadableJobSchema(AnswerSchema):
    """A job that this version cannot read. A newer version may have written it."""

    id = fields.String()
    detail = fields.String(metadata={"description": "What its operator can do."})


class JobsSchema(AnswerSchema):
    """A page of jobs. `next_cursor` is null on the last page."""

    OPTIONAL = frozenset({"incomplete", "unreadable"})

    jobs = fields.List(fields.Nested(CurrentJobSchema))
    next_cursor = fields.String(allow_none=True)
    incomplete = fields.String(
        metadata={"description": "Why older jobs are missing; absent when none is."}
    )
    unreadable = fields.List(
        fields.Nested(UnreadableJobSchema),
        metadata={
            "description": "Jobs that may match, and that `jobs` lacks because they cannot be"
            " read; absent when there is none."
        },
    )


class EventsSchema(AnswerSchema):
    """A job's timeline, oldest event first."""

    events = fields.List(fields.Nested(EventSchema))


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes."""
    jobs = Blueprint("jobs", __name__, url_prefix="/v1/jobs", description="Image jobs")

    _add(jobs, "", "POST", _create(runtime), _create_doc())
    _add(jobs, "/<job_id>", "GET", _show(runtime), _show_doc())
    _add(jobs, "", "GET", _list(runtime), _list_doc(runtime))
    _add(
        jobs,
        "/<job_id>/events",
        "GET",
        _events(runtime),
        operation("get_job_events", {200: EventsSchema}, 404),
    )
    return jobs


def _add(jobs: Blueprint, path: str, method: str, view: Route, doc: dict[str, Any]) -> None:
    documented = jobs.doc(**doc)(view)
    jobs.add_url_rule(path, endpoint=view.__name__, view_func=documented, methods=[method])


def _create(runtime: Runtime) -> Route:
    def create() -> Response:
        """Enqueue a job."""
        key = request.headers.get("Idempotency-Key")
        if request.mimetype == incoming.FORM:
            body, file = incoming.form(runtime)
        else:
            body, file = incoming.body(), None
        with tracing.continued(request.headers.get):
            result = create_job(
                runtime,
                body,
                scope=API_SCOPE,
                tenant=chosen_tenant() or caller().tenant,
                key=key,
                file=file,
            )
        return answer(runtime, result.job, *created(result), result.wait)

    return create


def created(result: EnqueueResult) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of the answer with an enqueued job."""
    if result.replayed:
        return 200, {"Idempotent-Replay": "true"}
    return 202, {"Location": f"/v1/jobs/{result.job.id}"}


def _create_doc() -> dict[str, Any]:
    return operation(
        "create_job",
        {200: CurrentJobSchema, 202: CurrentJobSchema},
        *(410, 429),
        body={JSON: REQUEST_SCHEMA, incoming.FORM: JobFormSchema},
        body_required=True,
        parameters=[IDEMPOTENCY_KEY, TENANT_FILTER],
    )


def _show(runtime: Runtime) -> Route:
    def show(job_id: str) -> Response:
        """Get a job. With `?wait=30`, wait until it has its outcome, for at most 30 seconds."""
        seconds = incoming.wait()
        job = find_job(runtime, job_id)
        if seconds and not job.status.terminal:
            holds.hold(settled(job.id), lambda: _has_ended(runtime, job.id), seconds)
        return answer(runtime, job, 200)

    return show


def _has_ended(runtime: Runtime, job_id: str) -> bool:
    job = runtime.ledger.get(job_id)
    return job is None or job.status.terminal


def _show_doc() -> dict[str, Any]:
    return operation("get_job", {200: CurrentJobSchema}, 404, parameters=[WAIT])


def _list(runtime: Runtime) -> Route:
    def browse() -> Response:
        """List jobs, newest first. A page may hold fewer than `limit` jobs and not be the last."""
        limit, cursor, tenant = incoming.page_limit(), incoming.cursor(JOB_ID), chosen_tenant()
        filters = [
            (name, value)
            for name, value in request.args.items(multi=True)
            if name not in ("limit", "cursor", "tenant")
        ]
        if tenant is not None:
            filters.append(("tenant", tenant))
        query = read_query(runtime, filters, also=("limit", "cursor"))
        matches = search(runtime, query, limit=limit, cursor=cursor)
        page = {"jobs": current_views(runtime, matches.jobs), "next_cursor": matches.cursor}
        if matches.source is Source.AWAY:
            page["incomplete"] = "the history does not answer, so older jobs are missing"
        if matches.unreadable:
            page["unreadable"] = unreadable_views(matches.unreadable)
        return as_json(page, 200)

    return browse


def _list_doc(runtime: Runtime) -> dict[str, Any]:
    schemas = filter_schemas(runtime.providers)
    parameters = [
        *(query(name, meaning, **schemas.get(name, {})) for name, meaning in FILTERS.items()),
        *page_parameters("jobs", JOB_ID.pattern),
    ]
    return operation("list_jobs", {200: JobsSchema}, parameters=parameters)


def _events(runtime: Runtime) -> Route:
    def events(job_id: str) -> Response:
        """Get a job's timeline."""
        timeline = job_timeline(runtime, find_job(runtime, job_id))
        return as_json({"events": [event_view(event) for event in timeline]}, 200)

    return events
