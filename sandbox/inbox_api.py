"""The inbox over HTTP: where notifications come in, and a look at what came."""

import re
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request

from .control import ControlError, refuse_input, written_time
from .http_types import vanish, wait
from .inbox import Notification
from .inbox_faults import InboxFault, read_inbox_fault, write_inbox_fault
from .origin import refuse_other_sites
from .rule_format import RuleError
from .state import SandboxState

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def inbox_blueprint(world: SandboxState) -> Blueprint:
    """`POST /inbox/<name>`, and `/control/inbox`."""
    routes = Blueprint("inbox", __name__)
    routes.before_request(refuse_other_sites)
    routes.register_error_handler(ControlError, refuse_input)
    routes.register_error_handler(RuleError, refuse_input)
    _route_inbox(routes, world)
    _route_control(routes, world)
    return routes


def _route_inbox(routes: Blueprint, world: SandboxState) -> None:
    @routes.post("/inbox/<name>")
    def take(name: str) -> Response:
        if not _NAME.fullmatch(name):
            abort(404)
        headers = {header.lower(): value for header, value in request.headers.items()}
        notification, fault = world.inbox.take(name, headers, request.get_data())
        if not wait(fault.slow_seconds, world.stopping) or fault.drop:
            return vanish()
        world.inbox.answered(notification, fault.answer)
        return _answer(fault)


def _route_control(routes: Blueprint, world: SandboxState) -> None:
    @routes.get("/control/inbox")
    def show() -> Response:
        kept = world.inbox.newest_first(request.args.get("name"))
        return jsonify([_write(notification, times) for notification, times in kept])

    @routes.delete("/control/inbox")
    def clear() -> tuple[str, int]:
        world.inbox.clear()
        return "", 204

    @routes.put("/control/inbox/<name>")
    def spoil(name: str) -> Response:
        _check(name)
        fault = read_inbox_fault(request.get_json(force=True, silent=True))
        world.inbox.set_fault(name, fault)
        return jsonify({"name": name, **write_inbox_fault(fault, fault.times)})

    @routes.delete("/control/inbox/<name>")
    def mend(name: str) -> tuple[str, int]:
        _check(name)
        world.inbox.mend(name)
        return "", 204


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ControlError("name", name, "1 to 64 letters, digits, '_', '-' and '.'")


def _answer(fault: InboxFault) -> Response:
    answer = Response(status=fault.answer)
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = str(fault.retry_after)
    if fault.redirect is not None:
        answer.headers["Location"] = fault.redirect
    return answer


def _write(notification: Notification, times: int) -> dict[str, Any]:
    return {
        "inbox": notification.inbox,
        "id": notification.id,
        "type": notification.type,
        "job_id": notification.job_id,
        "status": notification.status,
        "verified": notification.verified,
        "problem": notification.problem,
        "received_at": written_time(notification.received_at),
        "deliveries": times,
        "timestamp": notification.timestamp,
        "signature": notification.signature,
        "size": notification.size,
        "body": notification.body.decode(errors="replace"),
    }
