"""AI GPT Image, from its page "Nano Banana 2 Text to Image API"."""

import json
import secrets
import string
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

from flask import Blueprint, Response, jsonify, request
from marshmallow import Schema, fields, validate

from .idempotency import KeyInFlightError, KeyMismatchError
from .pictures import picture
from .provider import CALLBACK_FAULTS, EmulatedProvider, Refusal, TaskRequest
from .tasks import Task, TaskCharge, TaskOutcome, TaskStatus
from .thin_success import Channel
from .validation import load, one_of, read_json

MODEL = "nano-banana-2-text-to-image"
ASPECT_RATIOS = (
    *("auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4"),
    *("8:1", "9:16", "16:9", "21:9"),
)
#: Price list of the sandbox itself, in credits. The document has none.
PRICES = {"1K": 4.0, "2K": 6.0, "4K": 9.0}

MAX_PROMPT_CHARS = 20_000

#: Codes that are sent with HTTP 200. The document does not promise another HTTP status, so a client
#: must read the code.
CODES_WITH_HTTP_200 = frozenset({402, 409, 422})

_ID_ALPHABET = string.ascii_lowercase + string.digits
_MESSAGES = {
    400: "Invalid request parameters",
    401: "Authentication failed or API key is invalid",
    402: "Insufficient credits",
    403: "Access denied",
    404: "Not found",
    405: "Method not allowed",
    409: "Active task limit exceeded",
    413: "Request body too large",
    422: "Parameter validation failed",
    429: "Request rate limit exceeded",
    500: "Internal server error",
    502: "Bad gateway",
    503: "Service unavailable",
}
_FINAL_STATUSES = {
    TaskStatus.SUCCEEDED: "success",
    TaskStatus.FAILED: "fail",
    TaskStatus.CANCELLED: "fail",
}


class AIGPTImageInputSchema(Schema):
    """The field `input` of nano-banana-2-text-to-image."""

    prompt = fields.String(required=True, validate=validate.Length(min=1, max=MAX_PROMPT_CHARS))
    aspect_ratio = fields.String(load_default="auto", validate=one_of(ASPECT_RATIOS))
    resolution = fields.String(load_default="1K", validate=one_of(tuple(PRICES)))
    output_format = fields.String(load_default="png", validate=one_of(("png", "jpg")))


class AIGPTImageTaskSchema(Schema):
    """The body of a submission."""

    model = fields.String(required=True, validate=one_of((MODEL,)))
    input = fields.Nested(AIGPTImageInputSchema, required=True)


_SCHEMA = AIGPTImageTaskSchema()


class EmulatedAIGPTImage(EmulatedProvider):
    """Emulated AI GPT Image: bearer key, text to image, no callbacks, idempotency keys."""

    name = "aigptimage"
    title = "AI GPT Image"
    submit_path = "/api/v1/jobs/createTask"
    query_path = "/api/v1/jobs/recordInfo?taskId="
    example: ClassVar[Mapping[str, Any]] = {
        "model": MODEL,
        "input": {"prompt": "A red cube"},
    }
    limit_status = 409
    link_ttl_seconds = 24 * 3600.0
    failure = TaskOutcome(
        TaskStatus.FAILED,
        "content_policy_violation",
        "The content policy does not allow this prompt.",
    )
    state_field = "state"
    result_fields = (("resultJson",),)
    unsupported_faults: ClassVar[frozenset[str]] = CALLBACK_FAULTS | {
        "early",
        "cancelled",
        "expire_at",
    }

    def route(self, routes: Blueprint) -> None:
        """Add the routes to submit and query."""
        routes.add_url_rule(self.submit_path, "create", self._create, methods=["POST"])
        routes.add_url_rule(self.query_path.partition("?")[0], "show", self._show, methods=["GET"])

    def refuse(self, refusal: Refusal) -> Response:
        """Return `{code, msg, data}`. Some codes have HTTP status 200."""
        message = refusal.message or _MESSAGES.get(refusal.status, "Request failed")
        answer = jsonify({"code": refusal.status, "msg": message, "data": None})
        answer.status_code = 200 if refusal.status in CODES_WITH_HTTP_200 else refusal.status
        return answer

    def accepted(self, task: Task) -> Response:
        """Return only the id of the task."""
        return _success({"taskId": task.id})

    def snapshot(
        self, task: Task, outcome: TaskOutcome | None, links: Sequence[str]
    ) -> dict[str, Any]:
        """Return the `data` of a query."""
        succeeded = outcome is not None and outcome.status is TaskStatus.SUCCEEDED
        created = _milliseconds(task.created_at)
        completed = _milliseconds(task.finished_at or 0) if outcome else None
        return {
            "taskId": task.id,
            "model": task.model,
            "state": _FINAL_STATUSES[outcome.status] if outcome else self._phase(task),
            "param": task.notes["param"],
            "resultJson": _compact({"resultUrls": list(links)}) if succeeded else None,
            "failCode": outcome.code if outcome and not succeeded else None,
            "failMsg": outcome.message if outcome and not succeeded else None,
            "costTime": None if completed is None else completed - created,
            "completeTime": completed,
            "createTime": created,
        }

    def add_error(self, view: MutableMapping[str, Any], outcome: TaskOutcome) -> None:
        """Add the reason of a failure to a task."""
        view.update({"failCode": outcome.code, "failMsg": outcome.message})

    def documented_limit(self) -> int | None:
        """Return the limit of active tasks."""
        return self.settings.max_active_tasks

    def new_id(self) -> str:
        """Return `task_` and 13 characters, as in the example of the document."""
        return "task_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(13))

    def _phase(self, task: Task) -> str:
        return "waiting" if task.progress(self.clock()) < 0.2 else "generating"

    def _create(self) -> Response:
        task_request = _read_task_request(read_json())
        key = task_request.idempotency_key
        if key is None:
            return self.submit(self, task_request, None)[1]
        try:
            return self.submit_once(task_request, key)[0]
        except KeyMismatchError:
            message = "Request conflict: X-Request-ID was used with another request body"
            raise Refusal(409, message) from None
        except KeyInFlightError:
            message = "Request conflict: the first request with this X-Request-ID is in progress"
            raise Refusal(409, message) from None

    def _show(self) -> Response:
        task_id = request.args.get("taskId")
        if not task_id:
            raise Refusal(400, "taskId: Missing data for required field.", field="taskId")
        task = self.find(task_id)
        if task is None:
            raise Refusal(404, "Task not found")
        return _success(self.present(task, task.outcome, Channel.QUERY))


def _read_task_request(body: dict[str, Any]) -> TaskRequest:
    values = load(_SCHEMA, body, 422)
    options = values["input"]
    return TaskRequest(
        model=values["model"],
        prompt=options["prompt"],
        pictures=(
            picture(options["aspect_ratio"], options["resolution"], options["output_format"]),
        ),
        charge=TaskCharge(PRICES[options["resolution"]], "credits"),
        idempotency_key=request.headers.get("X-Request-ID") or None,
        # The request as it was sent, without defaults.
        notes={"param": _compact({"model": body["model"], "input": body["input"]})},
    )


def _success(data: dict[str, Any]) -> Response:
    return jsonify({"code": 200, "msg": "success", "data": data})


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
