"""`/v1/providers`: what each provider accepts, and whether it gets submissions now."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import fields, validate
from werkzeug.exceptions import NotFound

from orchestrator.api import incoming
from orchestrator.api.answers import as_json
from orchestrator.api.auth import caller, require
from orchestrator.api.openapi import JSON, operation
from orchestrator.jobs.answer_schemas import AnswerSchema
from orchestrator.jobs.schema_fields import always
from orchestrator.jobs.validation import StrictSchema, checked, nearest
from orchestrator.ledger import LedgerUnavailable
from orchestrator.ledger.admission import CircuitState
from orchestrator.operations.admission import (
    admission_views,
    pause_provider,
    public_view,
    resume_provider,
    unknown_view,
)
from orchestrator.operations.durations import duration_views
from orchestrator.providers.listing import view
from orchestrator.runtime import Runtime
from orchestrator.security.api_keys import Scope


class ProvidersSchema(AnswerSchema):
    """The providers with their capabilities, models, limits and states.

    Only administrators get `in_flight`, `found_limit`, `paused_by`, `durations` and the message of
    `reason`.
    """

    providers = fields.List(fields.Dict())


class ProviderStateSchema(AnswerSchema):
    """The limits and the state of a provider."""

    name = fields.String()
    limits = fields.Dict()
    in_flight = fields.Integer()
    found_limit = fields.Integer(allow_none=True)
    circuit = fields.String(validate=validate.OneOf([state.value for state in CircuitState]))
    until = fields.String(allow_none=True)
    reason = fields.Dict(allow_none=True)
    paused_by = fields.String(allow_none=True)


class PauseSchema(StrictSchema):
    """The body of `POST /v1/providers/{name}/pause`."""

    reason = fields.String(
        error_messages=always("a text"),
        metadata={"description": "Why, for people."},
    )


_PAUSE = PauseSchema()


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes."""
    providers = Blueprint(
        "providers", __name__, url_prefix="/v1/providers", description="Providers"
    )

    @providers.get("")
    @providers.doc(**operation("list_providers", {200: ProvidersSchema}))
    def show() -> Response:
        """List the providers with their models, options, limits and states."""
        return as_json({"providers": _listed(runtime)}, 200)

    @providers.post("/<name>/pause")
    @providers.doc(
        **operation("pause_provider", {200: ProviderStateSchema}, 404, body={JSON: PauseSchema})
    )
    def pause(name: str) -> Response:
        """Stop submissions to a provider until it is resumed. Needs the scope admin."""
        _check(runtime, name)
        body = checked(_PAUSE, incoming.body() if request.get_data() else {})
        reason = body.get("reason", "")
        state = pause_provider(runtime, name, actor=caller().name, reason=reason)
        return as_json({"name": name, **state}, 200)

    @providers.post("/<name>/resume")
    @providers.doc(**operation("resume_provider", {200: ProviderStateSchema}, 404))
    def resume(name: str) -> Response:
        """End a pause, and close the circuit breaker. Needs the scope admin."""
        _check(runtime, name)
        return as_json({"name": name, **resume_provider(runtime, name, actor=caller().name)}, 200)

    return providers


def _check(runtime: Runtime, name: str) -> None:
    """Refuse a caller that is not an administrator, and a name that no provider has.

    Raises:
        Forbidden: the key lacks the scope admin.
        NotFound: there is no such provider.
    """
    require(Scope.ADMIN)
    if name not in runtime.providers:
        near = nearest(name, runtime.providers)
        hint = f"; did you mean {near}?" if near else ""
        known = ", ".join(runtime.providers)
        raise NotFound(f"there is no provider {name[:80]!r}; the providers are {known}{hint}")


def _listed(runtime: Runtime) -> list[dict[str, Any]]:
    """Return every provider. While Redis is away, the fields of its state are null."""
    enabled, names = runtime.settings.providers, list(runtime.providers)
    try:
        states = admission_views(runtime, names)
        durations = duration_views(runtime, names) if caller().admin else {}
    except LedgerUnavailable:
        states = {name: unknown_view(runtime, name) for name in names}
        durations = {}
    if caller().admin:
        states = {name: {**v, "durations": durations.get(name)} for name, v in states.items()}
    else:
        states = {name: public_view(state) for name, state in states.items()}
    return [
        {
            **view(p, on=name in enabled, prices=enabled[name].prices if name in enabled else None),
            **states[name],
        }
        for name, p in runtime.providers.items()
    ]
