"""`/v1/jobs/batch` and `/v1/batches`: enqueue many jobs with one request, and wait for all."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import fields, validate
from werkzeug.exceptions import Conflict, NotFound

from orchestrator import tracing
from orchestrator.api import holds, incoming
from orchestrator.api.answers import CHECK, as_json
from orchestrator.api.auth import caller, chosen_tenant
from orchestrator.api.jobs import IDEMPOTENCY_KEY, TENANT_FILTER, WAIT
from orchestrator.api.openapi import JSON, ProblemSchema, operation
from orchestrator.enqueuing import API_SCOPE
from orchestrator.jobs.answer_schemas import AnswerSchema, BatchSchema, CurrentJobSchema
from orchestrator.jobs.batch import Batch
from orchestrator.jobs.request import Receiver
from orchestrator.jobs.schema_fields import always
from orchestrator.jobs.schemas import ReceiverSchema
from orchestrator.jobs.validation import checked
from orchestrator.jobs.views import batch_view
from orchestrator.ledger.keys import settled
from orchestrator.operations.batches import MAX_JOBS, BatchEntry, create_batch
from orchestrator.operations.current_jobs import current_views
from orchestrator.operations.replay import NothingToNotify, notify_batch_again
from orchestrator.runtime import Runtime

#: The largest body of a batch. Bytes.
MAX_BATCH_BYTES = 8 * 1024 * 1024
_JOBS = f"a list of 1 to {MAX_JOBS} jobs"


class BatchRequestSchema(ReceiverSchema):
    """The jobs of a batch, and who is notified when all of them have their outcomes."""

    jobs = fields.List(
        fields.Raw(allow_none=True),
        required=True,
        validate=validate.Length(1, MAX_JOBS, error=_JOBS),
        error_messages=always(_JOBS),
        metadata={
            "description": "Each is a body of `POST /v1/jobs`, and may have its `idempotency_key`."
            " A bad one gets a problem document in the answer, and does not stop the others."
        },
    )


_REQUEST = BatchRequestSchema()


class BatchEntrySchema(AnswerSchema):
    """What became of one request: a job, or the reason why there is none."""

    OPTIONAL = frozenset({"job", "problem"})

    index = fields.Integer(metadata={"description": "The place of the request, from 0."})
    job = fields.Nested(CurrentJobSchema)
    problem = fields.Nested(ProblemSchema)


class BatchAnswerSchema(AnswerSchema):
    """The id of a batch, and what became of each request, in their order."""

    batch = fields.String()
    results = fields.List(fields.Nested(BatchEntrySchema))


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes."""
    batches = Blueprint("batches", __name__, url_prefix="/v1", description="Batches of jobs")

    @batches.post("/jobs/batch")
    @batches.doc(**_create_doc())
    def create() -> Response:
        """Enqueue up to 500 jobs. A bad one does not stop the good ones."""
        return _create(runtime)

    @batches.get("/batches/<batch_id>")
    @batches.doc(**operation("get_batch", {200: BatchSchema}, 404, parameters=[WAIT]))
    def show(batch_id: str) -> Response:
        """Get a batch: its jobs by status. With `?wait=30`, wait until it is completed."""
        seconds = incoming.wait()
        batch = _visible(runtime.ledger.batches.get(batch_id), batch_id)
        if seconds and not batch.complete:
            holds.hold(settled(batch_id), lambda: _has_completed(runtime, batch_id), seconds)
        return as_json(batch_view(batch), 200)

    @batches.post("/batches/<batch_id>/notify")
    @batches.doc(**operation("notify_batch", {202: BatchSchema}, 404, 409))
    def notify(batch_id: str) -> Response:
        """Send the notification of a completed batch again, with the same message id."""
        return _notify(runtime, batch_id)

    return batches


def _has_completed(runtime: Runtime, batch_id: str) -> bool:
    batch = runtime.ledger.batches.get(batch_id)
    return batch is None or batch.complete


def _notify(runtime: Runtime, batch_id: str) -> Response:
    batch = _visible(runtime.ledger.batches.get(batch_id), batch_id)
    try:
        notify_batch_again(runtime, batch, actor=caller().name)
    except NothingToNotify as error:
        raise Conflict(str(error)) from None
    return as_json(batch_view(_visible(runtime.ledger.batches.get(batch_id), batch_id)), 202)


def _create_doc() -> dict[str, Any]:
    return operation(
        "create_batch",
        {200: BatchAnswerSchema, 202: BatchAnswerSchema},
        410,
        body={JSON: BatchRequestSchema},
        body_required=True,
        parameters=[IDEMPOTENCY_KEY, TENANT_FILTER],
    )


def _create(runtime: Runtime) -> Response:
    body = checked(_REQUEST, incoming.large_body(MAX_BATCH_BYTES))
    jobs = body.pop("jobs")
    with tracing.continued(request.headers.get):
        result = create_batch(
            runtime,
            jobs,
            scope=API_SCOPE,
            tenant=chosen_tenant() or caller().tenant,
            key=request.headers.get("Idempotency-Key"),
            receiver=Receiver(**body),
        )
    answer = {"batch": result.id, "results": _results(runtime, result.entries)}
    if result.replayed:
        return as_json(answer, 200, {"Idempotent-Replay": "true"})
    return as_json(answer, 202, {"Location": f"/v1/batches/{result.id}"})


def _results(runtime: Runtime, entries: list[BatchEntry]) -> list[dict[str, Any]]:
    made = {entry.job.id: entry.job for entry in entries if entry.job}
    waits = {entry.job.id: entry.wait for entry in entries if entry.job and entry.wait}
    views = {view["id"]: view for view in current_views(runtime, list(made.values()), waits)}
    return [
        {"index": entry.index, "job": views[entry.job.id]}
        if entry.job
        else {"index": entry.index, "problem": entry.problem}
        for entry in entries
    ]


def _visible(batch: Batch | None, batch_id: str) -> Batch:
    """Return the batch, if the caller may see it.

    Raises:
        NotFound: there is no such batch, or it belongs to another tenant. The answer is the same.
    """
    if batch is None or not caller().sees(batch.tenant):
        raise NotFound(f"there is no batch {batch_id[:80]!r} that this key may see; {CHECK}")
    return batch
