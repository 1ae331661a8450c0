"""Account faults in the control API."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from .account_faults import AccountFault
from .control import check_provider, format_time, refuse_input
from .durations import MAX_SECONDS
from .errors import InputError
from .origin import refuse_other_sites
from .rule_format import RuleError, check_fields
from .state import SandboxState

#: Every field of an account fault.
FIELDS = ("status", "seconds")
#: The statuses that an account can be refused with.
STATUSES = (401, 402, 403, 429, 500, 503)


def accounts_blueprint(state: SandboxState) -> Blueprint:
    """Return the routes below `/control/accounts`."""
    routes = Blueprint("accounts", __name__, url_prefix="/control/accounts")
    routes.before_request(refuse_other_sites)
    routes.register_error_handler(InputError, refuse_input)

    @routes.get("")
    def show() -> Response:
        active = state.account_faults.active()
        return jsonify({name: _write(fault) for name, fault in active.items()})

    @routes.put("/<provider>")
    def refuse(provider: str) -> Response:
        check_provider(provider, state)
        status, seconds = read_account_fault(request.get_json(force=True, silent=True))
        return jsonify(_write(state.account_faults.set(provider, status, seconds)))

    @routes.delete("/<provider>")
    def accept(provider: str) -> tuple[str, int]:
        check_provider(provider, state)
        state.account_faults.clear(provider)
        return "", 204

    return routes


def read_account_fault(document: object) -> tuple[int, float | None]:
    """Read the status and the seconds of an account fault.

    Raises:
        RuleError: A field is unknown, missing or has a value that is not allowed.
    """
    if not isinstance(document, dict):
        raise RuleError("fault", document, "an object with " + ", ".join(FIELDS))
    check_fields(document, FIELDS)
    status, seconds = document.get("status"), document.get("seconds")
    if isinstance(status, bool) or status not in STATUSES:
        raise RuleError("status", status, "one of " + ", ".join(map(str, STATUSES)))
    if seconds is None:
        return int(status), None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        seconds = -1
    if not 0 < seconds <= MAX_SECONDS:
        allowed = f"a number of seconds above 0 and up to {MAX_SECONDS:g}, or null for no end"
        raise RuleError("seconds", document["seconds"], allowed)
    return int(status), float(seconds)


def _write(fault: AccountFault) -> dict[str, Any]:
    ends_at = None if fault.ends_at is None else format_time(fault.ends_at)
    return {"status": fault.status, "ends_at": ends_at}
