"""`POST /v1/jobs/quote`: what a job would cost, and why it would be refused."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields, validate

from orchestrator.api import incoming
from orchestrator.api.answers import as_json
from orchestrator.api.auth import caller, chosen_tenant
from orchestrator.api.jobs import TENANT_FILTER
from orchestrator.api.openapi import JSON, ProblemSchema, operation
from orchestrator.job_check import REQUEST_SCHEMA
from orchestrator.jobs.answer_schemas import AnswerSchema
from orchestrator.operations.quote import quote
from orchestrator.runtime import Runtime


class QuotedCostSchema(AnswerSchema):
    """What a job would cost at a provider: `computed` from the price table, or `unknown`."""

    provider = fields.String()
    model = fields.String()
    amount = fields.Float(allow_none=True)
    unit = fields.String(allow_none=True)
    source = fields.String(validate=validate.OneOf(["computed", "unknown"]))


class QuoteSchema(AnswerSchema):
    """Whether a job would be accepted now, the problem if not, and what it would cost.

    `costs` has the provider of the request and its fallbacks. One of them is charged. It is empty
    when the request is not valid.
    """

    accepted = fields.Boolean()
    problem = fields.Nested(ProblemSchema, allow_none=True)
    costs = fields.List(fields.Nested(QuotedCostSchema))


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the route."""
    quotes = Blueprint("quotes", __name__, url_prefix="/v1/jobs", description="Quotes")

    @quotes.post("/quote")
    @quotes.doc(
        **operation(
            "quote_job",
            {200: QuoteSchema},
            body={JSON: REQUEST_SCHEMA},
            body_required=True,
            parameters=[TENANT_FILTER],
        )
    )
    def create() -> Response:
        """Say what a job would cost, and why it would be refused. Nothing is created."""
        tenant = chosen_tenant() or caller().tenant
        return as_json(quote(runtime, incoming.body(), tenant), 200)

    return quotes
