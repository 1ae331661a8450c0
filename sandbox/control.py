"""The control API: it sets faults, and shows tasks, callbacks and charges."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, jsonify, request

from .errors import InputError
from .origin import refuse_other_sites
from .rule_format import read_rule, write_rule
from .state import SandboxState
from .tasks import Callback, Task


class ControlError(InputError):
    """Bad input to the control API, with the HTTP status of the answer."""

    def __init__(self, field: str, value: object, allowed: str, status: int = 400) -> None:
        super().__init__(field, value, allowed)
        self.status = status


def control_blueprint(state: SandboxState) -> Blueprint:
    """Return the routes below `/control`. They need no API key."""
    routes = Blueprint("control", __name__, url_prefix="/control")
    routes.before_request(refuse_other_sites)
    routes.register_error_handler(InputError, refuse_input)
    _route_faults(routes, state)
    _route_tasks(routes, state)
    _route_ledger(routes, state)
    return routes


def _route_faults(routes: Blueprint, state: SandboxState) -> None:
    @routes.post("/faults")
    def add() -> tuple[Response, int]:
        spec = read_rule(request.get_json(force=True, silent=True))
        return jsonify(write_rule(state.rules.add(spec))), 201

    @routes.get("/faults")
    def show() -> Response:
        return jsonify([write_rule(rule) for rule in state.rules.all()])

    @routes.delete("/faults")
    def clear() -> tuple[str, int]:
        state.rules.clear()
        return "", 204

    @routes.delete("/faults/<rule_id>")
    def remove(rule_id: str) -> tuple[str, int]:
        if not state.rules.remove(rule_id):
            raise ControlError("id", rule_id, "the id of a fault in GET /control/faults", 404)
        return "", 204


def _route_tasks(routes: Blueprint, state: SandboxState) -> None:
    @routes.get("/tasks")
    def tasks() -> Response:
        provider = request.args.get("provider")
        check_provider(provider, state)
        return jsonify([_task(task, state) for task in state.store.newest_first(provider)])

    @routes.delete("/tasks")
    def forget() -> tuple[str, int]:
        state.forget()
        return "", 204

    @routes.post("/tasks/<task_id>/callback")
    def resend(task_id: str) -> Response:
        task = state.store.get(task_id)
        if task is None:
            raise ControlError("id", task_id, "the id of a task in GET /control/tasks", 404)
        if task.outcome is None:
            raise ControlError("status", str(task.status), "a terminal status", 409)
        if task.callback_url is None:
            raise ControlError("callback_url", None, "set when the task is submitted", 409)
        callback = state.callback_sender.resend(state.providers[task.provider], task)
        return jsonify(_callback(callback))

    @routes.get("/tasks/<task_id>/images/<int:number>")
    def image(task_id: str, number: int) -> Response:
        task = state.store.get(task_id)
        if task is None or number >= len(task.pictures):
            allowed = "the number of an image of a task in GET /control/tasks"
            raise ControlError("image", f"{task_id} {number}", allowed, 404)
        file = state.providers[task.provider].draw(task, number)
        return Response(file.data, content_type=file.content_type)


def _route_ledger(routes: Blueprint, state: SandboxState) -> None:
    @routes.get("/ledger")
    def ledger() -> Response:
        accounts = state.store.accounts()
        return jsonify(
            {
                name: {
                    "tasks": account.tasks,
                    "amount": round(account.amount, 6),
                    "unit": account.unit,
                    "refunded": account.refunded,
                    "refunded_amount": round(account.refunded_amount, 6),
                }
                for name, account in accounts.items()
            }
        )


def refuse_input(error: InputError) -> tuple[Response, int]:
    """Answer bad input with the field, its value and the allowed values."""
    problem = {
        "message": str(error),
        "field": error.field,
        "value": error.value,
        "allowed": error.allowed,
    }
    return jsonify({"error": problem}), getattr(error, "status", 400)


def check_provider(name: object, state: SandboxState) -> None:
    """Raise ControlError for a name that no provider has. None is every provider."""
    if name is not None and name not in state.providers:
        allowed = ", ".join(state.providers)
        raise ControlError("provider", name, f"one of {allowed}, or omitted for every provider")


def _task(task: Task, state: SandboxState) -> dict[str, Any]:
    return {
        "id": task.id,
        "provider": task.provider,
        "model": task.model,
        "prompt": task.prompt,
        "status": task.status,
        "provider_status": state.providers[task.provider].status(task),
        "charged": {
            "amount": task.charge.amount,
            "unit": task.charge.unit,
            "refunded": task.refunded,
        },
        "created_at": format_time(task.created_at),
        "finished_at": None if task.finished_at is None else format_time(task.finished_at),
        "idempotency_key": task.idempotency_key,
        "callback_url": task.callback_url,
        "callbacks": [_callback(callback) for callback in tuple(task.callbacks)],
        "image_asks": [task.image_requests[number] for number in range(len(task.links()))],
        "submissions": task.submissions,
        "faults": dict(task.faults.values),
    }


def _callback(callback: Callback) -> Mapping[str, Any]:
    return {
        "at": format_time(callback.at),
        "kind": callback.kind,
        "url": callback.url,
        "status": callback.status,
        "error": callback.error,
    }


def format_time(at: float) -> str:
    """Return a Unix time, in seconds, as RFC 3339 text in milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
