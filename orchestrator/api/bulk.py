"""`/v1/bulk`: cancel, retry or notify many jobs at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import ValidationError, fields, validate, validates_schema
from werkzeug.exceptions import Forbidden, NotFound, ServiceUnavailable

from orchestrator.api import incoming
from orchestrator.api.answers import HISTORY_RETRY_SECONDS, as_json
from orchestrator.api.auth import OWN_TENANT_ONLY, caller, chosen_tenant
from orchestrator.api.filters import filter_object
from orchestrator.api.jobs import TENANT_FILTER
from orchestrator.api.openapi import JSON, operation
from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.answer_schemas import AnswerSchema, name_of, timestamp
from orchestrator.jobs.model import Status
from orchestrator.jobs.schema_fields import always, switch, text
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jobs.validation import REQUIRED, InvalidRequest, StrictSchema, Violation, checked
from orchestrator.ledger.bulk import BulkAction, BulkKind, BulkState
from orchestrator.ledger.identifiers import BULK_ID, JOB_ID
from orchestrator.operations import bulk as operations
from orchestrator.operations.bulk import MAX_NAMED_JOBS, UnknownBulkAction, bulk_view
from orchestrator.providers import PROVIDERS
from orchestrator.runtime import Runtime

#: Previews that one process makes at once. A preview of many jobs takes seconds. It holds a thread
#: that callbacks need too.
MAX_PREVIEWS = 1
#: The `Retry-After` of a further preview. Seconds.
RETRY_AFTER_SECONDS = 5
#: The most actions of a list.
MAX_LISTED = 100
_JOBS = f"a list of 1 to {MAX_NAMED_JOBS} ids of jobs"

_making = threading.BoundedSemaphore(MAX_PREVIEWS)


def _flag(description: str) -> fields.Boolean:
    return switch(metadata={"description": description})


class BulkRequestSchema(StrictSchema):
    """The body of `POST /v1/bulk`: an action, and a filter, jobs or a preview."""

    action = text(required=True, one_of=tuple(BulkKind))
    filter = fields.Dict(
        keys=fields.String(),
        error_messages=always("a JSON object with filters; an empty one means all jobs"),
        metadata={
            "description": "The filters of `GET /v1/jobs`. `{}` means all jobs.",
            **filter_object(PROVIDERS),
        },
    )
    jobs = fields.List(
        fields.String(
            validate=validate.Regexp(f"^{JOB_ID.pattern}$", error="the id of a job"),
            error_messages=always("the id of a job"),
        ),
        validate=validate.Length(1, MAX_NAMED_JOBS, error=_JOBS),
        error_messages=always(_JOBS),
        metadata={"description": "Act on these jobs. They replace `filter`."},
    )
    preview = fields.String(
        error_messages=always("the id of a preview"),
        metadata={
            "description": "Act on the jobs of this preview. It replaces `filter`.",
            "pattern": f"^{BULK_ID.pattern}$",
        },
    )
    dry_run = _flag("Only preview: count the jobs and the money at risk.")
    accept_risk = _flag("Also retry jobs that may have been charged.")

    @validates_schema(skip_on_field_errors=True)
    def check_jobs(self, data: dict[str, Any], **_: Any) -> None:
        """Require a filter or jobs, so that no mistake means all jobs."""
        if not data.keys() & {"filter", "jobs", "preview"}:
            raise ValidationError(REQUIRED, "filter")
        if "jobs" in data and data.keys() & {"filter", "preview"}:
            raise ValidationError("left out with `filter` or `preview`", "jobs")


_REQUEST = BulkRequestSchema()


class MoneySchema(AnswerSchema):
    """Expected costs at one provider in one unit, by price table."""

    provider = fields.String()
    unit = fields.String()
    reserved = fields.Float(
        metadata={
            "description": "Of all jobs that can be acted on: cancel saves it, and retry spends it."
        }
    )
    paid_again = fields.Float(
        metadata={"description": "With retry: of the jobs that may have been charged before."}
    )
    unconfirmed = fields.Float(
        metadata={"description": "Of the jobs of which nobody knows whether they were charged."}
    )


class RefusedSchema(AnswerSchema):
    """Why jobs were left as they are, and how many."""

    reason = fields.String()
    jobs = fields.Integer()


class BulkActionSchema(AnswerSchema):
    """A bulk action, or the preview of one."""

    id = fields.String()
    action = name_of(BulkKind)
    state = name_of(BulkState)
    filter = fields.Dict(keys=fields.String())
    jobs = fields.List(
        fields.String(),
        allow_none=True,
        metadata={"description": "The jobs that were named; null: the filter found them."},
    )
    tenant = fields.String(
        allow_none=True, metadata={"description": "Whose jobs; null: of all tenants."}
    )
    accept_risk = fields.Boolean()
    asked_by = fields.String()
    created_at = timestamp()
    started_at = timestamp(allow_none=True)
    finished_at = timestamp(allow_none=True)
    stopped_by = fields.String(allow_none=True)
    total = fields.Integer(metadata={"description": "The jobs that the filter found."})
    applies_to = fields.Integer(metadata={"description": "The jobs that the action applied to."})
    done = fields.Integer(metadata={"description": "The jobs that were acted on so far."})
    refused = fields.List(fields.Nested(RefusedSchema))
    waiting_for = fields.String(allow_none=True)
    by_status = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": f"Jobs by status: {', '.join(Status)}."},
    )
    may_be_paid = fields.Integer(
        metadata={"description": "The jobs that can be acted on and may have been charged."}
    )
    money = fields.List(fields.Nested(MoneySchema))
    unpriced_jobs = fields.Integer(
        metadata={"description": "The jobs that can be acted on and have no known price."}
    )


class BulkActionsSchema(AnswerSchema):
    """Bulk actions that were started, newest first."""

    actions = fields.List(fields.Nested(BulkActionSchema))


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes."""
    bulk = Blueprint("bulk", __name__, url_prefix="/v1/bulk", description="Many jobs at once")

    @bulk.post("")
    @bulk.doc(
        **operation(
            "create_bulk_action",
            {200: BulkActionSchema, 202: BulkActionSchema},
            *(404, 429),
            body={JSON: BulkRequestSchema},
            body_required=True,
        )
    )
    def create() -> Response:
        """Cancel, retry or notify many jobs. 200: a preview, or it was started before."""
        return _create(runtime)

    @bulk.get("/<bulk_id>")
    @bulk.doc(**operation("get_bulk_action", {200: BulkActionSchema}, 404))
    def show(bulk_id: str) -> Response:
        """Get a bulk action: how many of its jobs are done, and why others were refused."""
        return as_json(bulk_view(_find(runtime, bulk_id)), 200)

    @bulk.get("")
    @bulk.doc(
        **operation("list_bulk_actions", {200: BulkActionsSchema}, parameters=[TENANT_FILTER])
    )
    def list_() -> Response:
        """List the newest bulk actions that were started. A tenant sees those of its jobs."""
        started = runtime.ledger.bulk.newest(MAX_LISTED, tenant=chosen_tenant())
        return as_json({"actions": [bulk_view(action) for action in started]}, 200)

    @bulk.post("/<bulk_id>/stop")
    @bulk.doc(**operation("stop_bulk_action", {200: BulkActionSchema}, 404))
    def stop(bulk_id: str) -> Response:
        """Stop a bulk action. What was done to its jobs stays done."""
        return as_json(bulk_view(_stopped(runtime, bulk_id)), 200)

    return bulk


def _stopped(runtime: Runtime, bulk_id: str) -> BulkAction:
    """Stop an action that the caller may see."""
    _find(runtime, bulk_id)
    try:
        return operations.stop(runtime, bulk_id, actor=caller().name)
    except UnknownBulkAction as error:
        raise NotFound(str(error)) from None


def _create(runtime: Runtime) -> Response:
    body = checked(_REQUEST, incoming.body())
    risk = body.get("accept_risk", False)
    action = _previewed(runtime, body) if "preview" in body else _preview(runtime, body)
    if body.get("dry_run"):
        return as_json(bulk_view(action), 200)
    try:
        started, replayed = operations.start(runtime, action, actor=caller().name, accept_risk=risk)
    except UnknownBulkAction as error:
        raise NotFound(str(error)) from None
    location = {"Location": f"/v1/bulk/{started.id}"}
    return as_json(bulk_view(started), 200 if replayed else 202, location)


def preview(
    runtime: Runtime,
    kind: BulkKind,
    filters: Mapping[str, Any],
    *,
    accept_risk: bool = False,
    actor: str,
    named: Sequence[str] = (),
) -> BulkAction:
    """Preview a bulk action as `operations.bulk` does, but few at once.

    Raises:
        InvalidRequest: a filter is wrong, or there are too many jobs.
        ServiceUnavailable: another one is being made, or the history does not answer.
    """
    if not _making.acquire(blocking=False):
        raise ServiceUnavailable(
            "another bulk action is being prepared; send the request again",
            retry_after=RETRY_AFTER_SECONDS,
        )
    try:
        return operations.preview(
            runtime, kind, filters, actor=actor, accept_risk=accept_risk, named=named
        )
    except HistoryUnavailable:
        raise ServiceUnavailable(
            "the history does not answer, so a bulk action finds no jobs; send it again later",
            retry_after=HISTORY_RETRY_SECONDS,
        ) from None
    finally:
        _making.release()


def _preview(runtime: Runtime, body: dict[str, Any]) -> BulkAction:
    filters = _own(body.get("filter", {}))
    try:
        return preview(
            runtime,
            BulkKind(body["action"]),
            filters,
            actor=caller().name,
            accept_risk=body.get("accept_risk", False),
            named=body.get("jobs", ()),
        )
    except InvalidRequest as error:
        raise InvalidRequest(*(_inside(violation) for violation in error.violations)) from None


def _previewed(runtime: Runtime, body: dict[str, Any]) -> BulkAction:
    """Return the preview that a request names, if the request asks for the same."""
    action = _find(runtime, body["preview"])
    if action.kind != body["action"]:
        allowed = f"{action.kind}, which was previewed"
        raise InvalidRequest(Violation("action", body["action"], allowed))
    if "filter" in body and _own(body["filter"]) != action.filters:
        allowed = "left out with `preview`, or the same as in the preview"
        raise InvalidRequest(Violation("filter", body["filter"], allowed))
    return action


def _own(filters: dict[str, Any]) -> dict[str, Any]:
    """Return filters with the tenant whose jobs the caller may act on.

    Raises:
        Forbidden: the caller may not see the tenant in them.
    """
    if "tenant" not in filters:
        return filters if caller().admin else {**filters, "tenant": caller().tenant}
    try:
        named = tenant_name(filters["tenant"] or "")
    except InvalidRequest as error:
        raise InvalidRequest(*(_inside(violation) for violation in error.violations)) from None
    if not caller().sees(named):
        raise Forbidden(OWN_TENANT_ONLY)
    return {**filters, "tenant": named}


def _inside(violation: Violation) -> Violation:
    """Return the violation of a filter with its place in the body."""
    is_filter = violation.field != "filter"
    return replace(violation, field=f"filter.{violation.field}") if is_filter else violation


def _find(runtime: Runtime, bulk_id: str) -> BulkAction:
    """Return an action that the caller may see.

    Raises:
        NotFound: there is none, or it belongs to another tenant. The answer is the same.
    """
    try:
        return operations.find(runtime, bulk_id, caller())
    except UnknownBulkAction as error:
        raise NotFound(str(error)) from None
