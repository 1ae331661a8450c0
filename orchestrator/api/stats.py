"""`/v1/stats`: the state of the installation in figures."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint
from marshmallow import Schema, fields

from orchestrator.api.auth import require_key
from orchestrator.jsonio import dump
from orchestrator.operations.stats import stats
from orchestrator.runtime import Runtime


class StatsSchema(Schema):
    """Jobs by status, what is overdue, contradictions, and what is at risk: money and images."""

    jobs = fields.Dict(keys=fields.String(), values=fields.Integer())
    agenda = fields.Dict()
    contradictions = fields.Dict(keys=fields.String(), values=fields.Integer())
    unconfirmed = fields.Dict()
    archive = fields.Dict()
    notifications = fields.Dict()
    last_sweep_seconds_ago = fields.Float(allow_none=True)


def blueprint(runtime: Runtime) -> Blueprint:
    """The route, on these runtime."""
    routes = Blueprint("stats", __name__, url_prefix="/v1/stats", description="Figures")

    @routes.before_request
    def authenticate() -> None:
        require_key(runtime.settings.api_keys)

    @routes.get("")
    @routes.doc(security=[{"bearer": []}])
    @routes.alt_response(200, schema=StatsSchema, description="The figures")
    def show() -> Response:
        """Count jobs, what is overdue or at risk, contradictions, and callers that are not told."""
        return Response(dump(stats(runtime)), 200, mimetype="application/json")

    return routes
