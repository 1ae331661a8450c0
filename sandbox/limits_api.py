"""Limits of tasks in flight in the control API."""

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify, request

from .control import check_provider, refuse_input
from .errors import InputError
from .origin import refuse_other_sites
from .provider import EmulatedProvider
from .rule_format import RuleError, check_fields
from .state import SandboxState

#: Every field of a limit that can be set.
FIELDS = ("max_in_flight",)
#: Largest limit. Tasks.
MAX_LIMIT = 100_000
#: The allowed limits in words, for error messages.
LIMIT_FORMAT = f"a whole number from 1 to {MAX_LIMIT}"


def limits_blueprint(state: SandboxState) -> Blueprint:
    """Return the routes below `/control/limits`."""
    routes = Blueprint("limits", __name__, url_prefix="/control/limits")
    routes.before_request(refuse_other_sites)
    routes.register_error_handler(InputError, refuse_input)

    @routes.get("")
    def show() -> Response:
        return jsonify({p.name: _write(p, state) for p in state.providers.values()})

    @routes.put("/<provider>")
    def change(provider: str) -> Response:
        check_provider(provider, state)
        emulated = state.providers[provider]
        emulated.max_in_flight = _read(request.get_json(force=True, silent=True))
        return jsonify(_write(emulated, state))

    return routes


def read_limit(text: str) -> int | None:
    """Return a limit, or None when the text is anything else."""
    # int() raises for thousands of digits. No allowed limit has 10 digits.
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return limit if 1 <= limit <= MAX_LIMIT else None


def _read(document: object) -> int | None:
    """Read the new limit. None is no limit.

    Raises:
        RuleError: The field is unknown, missing or has a value that is not allowed.
    """
    if not isinstance(document, dict):
        raise RuleError("limit", document, "an object with " + ", ".join(FIELDS))
    check_fields(document, FIELDS)
    allowed = f"{LIMIT_FORMAT}, or null for no limit"
    if "max_in_flight" not in document:
        raise RuleError("max_in_flight", None, allowed)
    value = document["max_in_flight"]
    limit = read_limit(str(value)) if type(value) is int else None
    if value is not None and limit is None:
        raise RuleError("max_in_flight", value, allowed)
    return limit


def _write(provider: EmulatedProvider, state: SandboxState) -> dict[str, Any]:
    return {"max_in_flight": provider.max_in_flight, **asdict(state.store.load(provider.name))}
