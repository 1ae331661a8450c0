"""`/v1/reports/usage`: what was made and what it cost."""

from __future__ import annotations

import threading
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import fields
from werkzeug.exceptions import ServiceUnavailable

from orchestrator.api import incoming
from orchestrator.api.answers import as_json
from orchestrator.api.auth import chosen_tenant
from orchestrator.api.openapi import operation, query
from orchestrator.history.usage import DIMENSIONS
from orchestrator.jobs.answer_schemas import AnswerSchema, timestamp
from orchestrator.jobs.tenant import TENANT_PATTERN
from orchestrator.operations.filters import FILTERS as MEANINGS
from orchestrator.operations.filters import TIME
from orchestrator.operations.usage import FILTERS, as_csv, usage_report
from orchestrator.runtime import Runtime

#: Reports that one process makes at once. A report of many jobs takes seconds. It holds a thread
#: that callbacks need too.
MAX_REPORTS = 1
#: The `Retry-After` of a further report. Seconds.
RETRY_AFTER_SECONDS = 5
#: The forms of a report.
FORMATS = ("json", "csv")


class UsageRowSchema(AnswerSchema):
    """The figures of a group of jobs. Every job is in one row, so rows may be added up."""

    OPTIONAL = frozenset(DIMENSIONS)

    day = fields.Date()
    tenant = fields.String()
    provider = fields.String()
    model = fields.String()
    unit = fields.String(
        allow_none=True,
        metadata={"description": "The unit of the costs; null: no cost is known."},
    )
    jobs = fields.Integer()
    succeeded = fields.Integer()
    failed = fields.Integer()
    cancelled = fields.Integer()
    open = fields.Integer()
    images = fields.Integer()
    cost_reported = fields.Float(metadata={"description": "The sum that providers reported."})
    cost_computed = fields.Float(metadata={"description": "The sum from price tables."})
    cost_unknown_jobs = fields.Integer(
        metadata={"description": "Jobs that a provider accepted, and whose cost is not known."}
    )
    callback_share = fields.Float(
        allow_none=True,
        metadata={"description": "The share of settled jobs that a callback settled."},
    )
    median_seconds = fields.Float(allow_none=True)
    p95_seconds = fields.Float(allow_none=True)


class UsageSchema(AnswerSchema):
    """A report. `incomplete` says why jobs may be missing."""

    OPTIONAL = frozenset({"incomplete"})

    by = fields.List(fields.String())
    created_after = timestamp()
    created_before = timestamp()
    rows = fields.List(fields.Nested(UsageRowSchema))
    incomplete = fields.String()


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the route."""
    making = threading.BoundedSemaphore(MAX_REPORTS)
    reports = Blueprint("reports", __name__, url_prefix="/v1/reports", description="Reports")

    @reports.get("/usage")
    @reports.doc(**_usage_doc(runtime))
    def usage() -> Response:
        """Get jobs, outcomes, images, costs and times, by day, tenant, provider or model."""
        tenant = chosen_tenant()
        filters = {name: request.args[name] for name in FILTERS if name in request.args}
        if tenant is not None:
            filters["tenant"] = tenant
        form = incoming.one_of("format", list(FORMATS)) or "json"
        by = [name for name in request.args.get("by", "day,provider").split(",") if name]
        if not making.acquire(blocking=False):
            raise ServiceUnavailable(
                "another report is being made; send the request again",
                retry_after=RETRY_AFTER_SECONDS,
            )
        try:
            report = usage_report(runtime, filters, by)
        finally:
            making.release()
        if form == "json":
            return as_json(report, 200)
        headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
        return Response(as_csv(report), 200, headers, content_type="text/csv; charset=utf-8")

    return reports


def _usage_doc(runtime: Runtime) -> dict[str, Any]:
    schemas: dict[str, dict[str, Any]] = {
        "created_after": {"pattern": f"^{TIME.pattern}$"},
        "created_before": {"pattern": f"^{TIME.pattern}$"},
        "tenant": {"pattern": TENANT_PATTERN},
        "provider": {"enum": list(runtime.providers)},
        "model": {"minLength": 1, "maxLength": 1000},
    }
    names = "|".join(DIMENSIONS)
    parameters = [
        query(
            "by",
            f"What jobs are grouped by: {', '.join(DIMENSIONS)}, with commas. Empty: all together.",
            default="day,provider",
            pattern=f"^(({names})(,({names}))*)?$",
        ),
        *(query(name, MEANINGS[name], **schemas[name]) for name in FILTERS),
        query("format", "The form of the answer.", enum=list(FORMATS), default="json"),
    ]
    described = operation("get_usage", {200: UsageSchema}, parameters=parameters)
    described["responses"]["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    return described
