"""The inbox over HTTP: it receives notifications and lists them."""

import re
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request

from .control import ControlError, format_time, refuse_input
from .errors import InputError
from .http_types import close_without_answer, wait_for_client
from .inbox import Notification
from .inbox_faults import InboxFault, read_inbox_fault, write_inbox_fault
from .origin import refuse_other_sites
from .state import SandboxState

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def inbox_blueprint(state: SandboxState) -> Blueprint:
    """Return the routes `/inbox/<name>` and `/control/inbox`."""
    routes = Blueprint("inbox", __name__)
    routes.before_request(refuse_other_sites)
    routes.register_error_handler(InputError, refuse_input)
    _route_inbox(routes, state)
    _route_control(routes, state)
    return routes


def _route_inbox(routes: Blueprint, state: SandboxState) -> None:
    @routes.post("/inbox/<name>")
    def receive(name: str) -> Response:
        if not _NAME.fullmatch(name):
            abort(404)
        headers = {header.lower(): value for header, value in request.headers.items()}
        notification, fault = state.inbox.record(name, headers, request.get_data())
        if not wait_for_client(fault.slow_seconds, state.stopping) or fault.drop:
            return close_without_answer()
        state.inbox.record_answer(notification, fault.answer)
        return _answer(fault)


def _route_control(routes: Blueprint, state: SandboxState) -> None:
    @routes.get("/control/inbox")
    def show() -> Response:
        stored = state.inbox.newest_first(request.args.get("name"))
        return jsonify([_write(notification, deliveries) for notification, deliveries in stored])

    @routes.delete("/control/inbox")
    def clear() -> tuple[str, int]:
        state.inbox.clear()
        return "", 204

    @routes.put("/control/inbox/<name>")
    def set_fault(name: str) -> Response:
        _check_name(name)
        fault = read_inbox_fault(request.get_json(force=True, silent=True))
        state.inbox.set_fault(name, fault)
        return jsonify({"name": name, **write_inbox_fault(fault, fault.times)})

    @routes.delete("/control/inbox/<name>")
    def clear_fault(name: str) -> tuple[str, int]:
        _check_name(name)
        state.inbox.clear_fault(name)
        return "", 204


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ControlError("name", name, "1 to 64 letters, digits, '_', '-' and '.'")


def _answer(fault: InboxFault) -> Response:
    answer = Response(status=fault.answer)
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = str(fault.retry_after)
    if fault.redirect is not None:
        answer.headers["Location"] = fault.redirect
    return answer


def _write(notification: Notification, deliveries: int) -> dict[str, Any]:
    return {
        "inbox": notification.inbox,
        "id": notification.id,
        "type": notification.type,
        "job_id": notification.job_id,
        "status": notification.status,
        "verified": notification.verified,
        "problem": notification.problem,
        "received_at": format_time(notification.received_at),
        "deliveries": deliveries,
        "timestamp": notification.timestamp,
        "signature": notification.signature,
        "size": notification.size,
        "body": notification.body.decode(errors="replace"),
    }
