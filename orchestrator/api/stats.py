"""`/v1/stats`: figures of the installation."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint
from marshmallow import Schema, fields

from orchestrator.api.auth import require_key
from orchestrator.jsonio import dump
from orchestrator.operations.stats import stats
from orchestrator.runtime import Runtime


class StatsSchema(Schema):
    """Jobs by status, overdue jobs, contradictions, and money and images at risk."""

    jobs = fields.Dict(keys=fields.String(), values=fields.Integer())
    agenda = fields.Dict()
    contradictions = fields.Dict(keys=fields.String(), values=fields.Integer())
    unconfirmed = fields.Dict()
    archive = fields.Dict()
    notifications = fields.Dict()
    last_sweep_seconds_ago = fields.Float(allow_none=True)


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the route."""
    routes = Blueprint("stats", __name__, url_prefix="/v1/stats", description="Figures")

    @routes.before_request
    def authenticate() -> None:
        require_key(runtime.settings.api_keys)

    @routes.get("")
    @routes.doc(security=[{"bearer": []}])
    @routes.alt_response(200, schema=StatsSchema, description="The figures")
    def show() -> Response:
        """Get the figures: jobs, overdue jobs, contradictions, risks, failed notifications."""
        return Response(dump(stats(runtime)), 200, mimetype="application/json")

    return routes
