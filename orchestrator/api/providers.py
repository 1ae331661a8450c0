"""`/v1/providers`: what each provider accepts."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint
from marshmallow import Schema, fields

from orchestrator.jsonio import dump
from orchestrator.providers.listing import view
from orchestrator.runtime import Runtime


class ProvidersSchema(Schema):
    """The providers with their capabilities, models and limits."""

    providers = fields.List(fields.Dict())


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the route."""
    providers = Blueprint(
        "providers", __name__, url_prefix="/v1/providers", description="Providers"
    )

    @providers.get("")
    @providers.doc(security=[{"bearer": []}])
    @providers.alt_response(200, schema=ProvidersSchema, description="The providers")
    def show() -> Response:
        """List the providers with their models, options and limits."""
        enabled = runtime.settings.providers
        views = [
            view(p, on=name in enabled, prices=enabled[name].prices if name in enabled else None)
            for name, p in runtime.providers.items()
        ]
        return Response(dump({"providers": views}), 200, mimetype="application/json")

    return providers
