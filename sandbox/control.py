"""The control API: faults on demand, and a look behind the counter."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, jsonify, request

from .origin import refuse_other_sites
from .rule_format import RuleError, read_terms, write_rule
from .state import SandboxState
from .tasks import Callback, Task


class ControlError(Exception):
    """Bad input to the control API: the field, its value, and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str, status: int = 400) -> None:
        super().__init__(f"{field}: {value!r} is not allowed; allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed
        self.status = status


def control_blueprint(world: SandboxState) -> Blueprint:
    """The routes below `/control`. No API key: the sandbox is for local work."""
    routes = Blueprint("control", __name__, url_prefix="/control")
    routes.before_request(refuse_other_sites)
    routes.register_error_handler(ControlError, refuse_input)
    routes.register_error_handler(RuleError, refuse_input)
    _route_faults(routes, world)
    _route_tasks(routes, world)
    return routes


def _route_faults(routes: Blueprint, world: SandboxState) -> None:
    @routes.post("/faults")
    def add() -> tuple[Response, int]:
        terms = read_terms(request.get_json(force=True, silent=True))
        return jsonify(write_rule(world.rules.add(terms))), 201

    @routes.get("/faults")
    def show() -> Response:
        return jsonify([write_rule(rule) for rule in world.rules.all()])

    @routes.delete("/faults")
    def clear() -> tuple[str, int]:
        world.rules.clear()
        return "", 204

    @routes.delete("/faults/<rule_id>")
    def remove(rule_id: str) -> tuple[str, int]:
        if not world.rules.remove(rule_id):
            raise ControlError("id", rule_id, "the id of a fault in GET /control/faults", 404)
        return "", 204


def _route_tasks(routes: Blueprint, world: SandboxState) -> None:
    @routes.get("/tasks")
    def tasks() -> Response:
        provider = request.args.get("provider")
        _check_provider(provider, world)
        return jsonify([_task(task, world) for task in world.store.newest_first(provider)])

    @routes.delete("/tasks")
    def forget() -> tuple[str, int]:
        world.forget()
        return "", 204

    @routes.post("/tasks/<task_id>/callback")
    def again(task_id: str) -> Response:
        task = world.store.get(task_id)
        if task is None:
            raise ControlError("id", task_id, "the id of a task in GET /control/tasks", 404)
        if task.outcome is None:
            raise ControlError("status", task.status, "a terminal status", 409)
        if task.callback_url is None:
            raise ControlError("callback_url", None, "a task submitted with a callback URL", 409)
        sent = world.courier.again(world.providers[task.provider], task)
        return jsonify(_callback(sent))

    @routes.get("/ledger")
    def ledger() -> Response:
        accounts = world.store.accounts()
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


def refuse_input(error: ControlError | RuleError) -> tuple[Response, int]:
    """Answer bad input: what is wrong, in which field, and what is allowed."""
    problem = {
        "message": str(error),
        "field": error.field,
        "value": error.value,
        "allowed": error.allowed,
    }
    return jsonify({"error": problem}), getattr(error, "status", 400)


def _check_provider(name: object, world: SandboxState) -> None:
    if name is not None and name not in world.providers:
        allowed = ", ".join(world.providers)
        raise ControlError("provider", name, f"{allowed}, or none for every provider")


def _task(task: Task, world: SandboxState) -> dict[str, Any]:
    return {
        "id": task.id,
        "provider": task.provider,
        "model": task.model,
        "prompt": task.prompt,
        "status": task.status,
        "provider_status": world.providers[task.provider].status(task),
        "charged": {
            "amount": task.charge.amount,
            "unit": task.charge.unit,
            "refunded": task.refunded,
        },
        "created_at": written_time(task.created_at),
        "finished_at": None if task.finished_at is None else written_time(task.finished_at),
        "idempotency_key": task.idempotency_key,
        "callback_url": task.callback_url,
        "callbacks": [_callback(sent) for sent in tuple(task.callbacks)],
        "image_asks": [task.asked[number] for number in range(len(task.links()))],
        "submissions": task.submissions,
        "faults": dict(task.faults.values),
    }


def _callback(sent: Callback) -> Mapping[str, Any]:
    return {
        "at": written_time(sent.at),
        "kind": sent.kind,
        "url": sent.url,
        "status": sent.status,
        "error": sent.error,
    }


def written_time(at: float) -> str:
    """A time as the control API writes it, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
