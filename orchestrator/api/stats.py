"""`/v1/stats`: figures of the installation."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint
from marshmallow import Schema, fields

from orchestrator.api.auth import chosen_tenant
from orchestrator.api.openapi import operation, query
from orchestrator.jobs.tenant import TENANT_PATTERN
from orchestrator.jsonio import dump
from orchestrator.operations.stats import stats
from orchestrator.operations.tenants import tenant_view
from orchestrator.runtime import Runtime

TENANT = query("tenant", "The figures of this tenant; for administrators.", pattern=TENANT_PATTERN)


class StatsSchema(Schema):
    """Jobs by status, overdue jobs, contradictions, money and images at risk, providers.

    Only administrators get them. Another key gets `tenant`, `jobs`, `limits` and `notify_secrets`.
    """

    tenant = fields.String()
    limits = fields.Dict()
    notify_secrets = fields.Integer()
    jobs = fields.Dict(keys=fields.String(), values=fields.Integer())
    agenda = fields.Dict()
    contradictions = fields.Dict(keys=fields.String(), values=fields.Integer())
    unconfirmed = fields.Dict()
    archive = fields.Dict()
    notifications = fields.Dict()
    confirmations = fields.Dict()
    providers = fields.Dict(keys=fields.String(), values=fields.Dict())
    history = fields.Dict()
    processes = fields.List(fields.Dict())
    last_sweep_seconds_ago = fields.Float(allow_none=True)


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the route."""
    routes = Blueprint("stats", __name__, url_prefix="/v1/stats", description="Figures")

    @routes.get("")
    @routes.doc(**operation("get_stats", {200: StatsSchema}, parameters=[TENANT]))
    def show() -> Response:
        """Get the figures. An administrator gets all; another key gets those of its tenant."""
        tenant = chosen_tenant()
        figures = stats(runtime) if tenant is None else tenant_view(runtime, tenant)
        return Response(dump(figures), 200, mimetype="application/json")

    return routes
