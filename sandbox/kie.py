"""kie.ai, from its public documents: "Get Task Details", "Webhook Verification", and its models."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

from flask import Blueprint, Response, jsonify, request
from marshmallow import INCLUDE, Schema, fields, validate

from .envelopes import CallbackBody, wrap
from .pictures import picture
from .provider import EmulatedProvider, Refusal, TaskRequest
from .tasks import Task, TaskCharge, TaskOutcome, TaskStatus
from .thin_success import Channel
from .validation import check_callback_url, check_image_url, load, one_of, read_json

RATIOS = (
    *("1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16"),
    *("16:9", "21:9", "auto"),
)
#: Price list of the sandbox itself, in credits. The documents refer to a pricing page.
PRICES = {"1K": 8.0, "2K": 12.0, "4K": 18.0}

_MESSAGES = {
    400: "Bad request",
    401: "You do not have access permissions",
    402: "Insufficient credits",
    403: "Access denied",
    404: "Not found",
    429: "Rate limited",
    500: "Server error",
}
_FINAL_STATES = {
    TaskStatus.SUCCEEDED: "success",
    TaskStatus.FAILED: "fail",
    TaskStatus.CANCELLED: "fail",
}


class KieInputSchema(Schema):
    """The input of an image model. Each model has more fields, which the sandbox accepts."""

    class Meta:
        """Fields of single models are accepted."""

        unknown = INCLUDE

    prompt = fields.String(required=True, validate=validate.Length(min=1, max=20_000))
    image_input = fields.List(fields.String(validate=check_image_url), load_default=list)
    aspect_ratio = fields.String(load_default="auto", validate=one_of(RATIOS))
    resolution = fields.String(load_default="1K", validate=one_of(tuple(PRICES)))
    output_format = fields.String(load_default="png", validate=one_of(("png", "jpg")))


class KieTaskSchema(Schema):
    """The body of a submission. The callback URL is checked separately."""

    model = fields.String(required=True, validate=validate.Length(min=1))
    input = fields.Nested(KieInputSchema, required=True)
    callback_url = fields.String(data_key="callBackUrl")


_SCHEMA = KieTaskSchema()


class EmulatedKie(EmulatedProvider):
    """Emulated kie.ai: bearer key, an envelope, callbacks whose id and time are signed."""

    name = "kie"
    title = "kie.ai"
    submit_path = "/api/v1/jobs/createTask"
    query_path = "/api/v1/jobs/recordInfo?taskId="
    callback_field = ("callBackUrl",)
    example: ClassVar[Mapping[str, Any]] = {
        "model": "nano-banana-2",
        "input": {"prompt": "A red cube"},
    }
    retry_seconds = (60.0, 300.0, 900.0)
    link_ttl_seconds = 24 * 3600.0
    failure = TaskOutcome(
        TaskStatus.FAILED, "400", "Your prompt was flagged as violating content policies."
    )
    failures: ClassVar[Mapping[str, str]] = {"generation_failed": "501"}
    state_field = "state"
    result_fields = (("resultJson",),)
    unsupported_faults: ClassVar[frozenset[str]] = frozenset({"cancelled", "expire_at"})

    def route(self, routes: Blueprint) -> None:
        """Add the routes to submit and query."""
        routes.add_url_rule(self.submit_path, "create", self._create, methods=["POST"])
        routes.add_url_rule(self.query_path.partition("?")[0], "show", self._show, methods=["GET"])

    def refuse(self, refusal: Refusal) -> Response:
        """Return `{code, msg, data}` with the HTTP status of the code."""
        message = refusal.message or _MESSAGES.get(refusal.status, "Request failed")
        answer = jsonify({"code": refusal.status, "msg": message, "data": None})
        answer.status_code = refusal.status
        return answer

    def accepted(self, task: Task) -> Response:
        """Return only the id of the task."""
        return jsonify({"code": 200, "msg": "success", "data": {"taskId": task.id}})

    def snapshot(
        self, task: Task, outcome: TaskOutcome | None, links: Sequence[str]
    ) -> dict[str, Any]:
        """Return the `data` of a query and of a callback."""
        succeeded = outcome is not None and outcome.status is TaskStatus.SUCCEEDED
        return {
            "taskId": task.id,
            "model": task.model,
            "state": _FINAL_STATES[outcome.status] if outcome else self._phase(task),
            "param": _compact({"model": task.model, "input": {"prompt": task.prompt}}),
            "resultJson": _compact({"resultUrls": list(links)}) if succeeded else "",
            "failCode": outcome.code if outcome and not succeeded else "",
            "failMsg": outcome.message if outcome and not succeeded else "",
            "creditsConsumed": task.charge.amount if succeeded else 0,
            "completeTime": _milliseconds(task.finished_at),
            "createTime": _milliseconds(task.created_at),
            "updateTime": _milliseconds(task.finished_at or task.created_at),
        }

    def add_error(self, view: MutableMapping[str, Any], outcome: TaskOutcome) -> None:
        """Add the reason of a failure to a task."""
        view.update({"failCode": outcome.code, "failMsg": outcome.message})

    def callback_body(
        self, task: Task, outcome: TaskOutcome | None, channel: Channel = Channel.CALLBACK
    ) -> CallbackBody:
        """Return the body of a callback: the envelope of a query."""
        view = self.present(task, outcome, channel)
        if task.faults.form("envelope") is not None:
            return wrap(view, task.faults)
        failed = outcome is not None and outcome.status is not TaskStatus.SUCCEEDED
        code, words = (501, "Task failed") if failed else (200, "success")
        return wrap({"code": code, "msg": words, "data": view}, task.faults)

    def new_id(self) -> str:
        """Return `task_` and 24 characters."""
        return f"task_{secrets.token_hex(12)}"

    def signature(self, body: bytes) -> Mapping[str, str]:
        """Return the signature headers, if a secret is set."""
        return self._signed(body, self.webhook_secret) if self.webhook_secret else {}

    def wrong_signature(self, body: bytes) -> Mapping[str, str] | None:
        """Return headers that are signed with another secret."""
        return self._signed(body, f"not {self.webhook_secret}") if self.webhook_secret else None

    def _signed(self, body: bytes, secret: str) -> Mapping[str, str]:
        # Faults may give the body another form. Then the id is looked for in its text.
        named = body.partition(b"task_")[2][:24].decode("ascii", "replace")
        timestamp = str(int(self.clock()))
        digest = hmac.digest(secret.encode(), f"task_{named}.{timestamp}".encode(), hashlib.sha256)
        return {
            "X-Webhook-Timestamp": timestamp,
            "X-Webhook-Signature": base64.b64encode(digest).decode(),
        }

    def _phase(self, task: Task) -> str:
        progress = task.progress(self.clock())
        if progress < 0.2:
            return "waiting"
        return "queuing" if progress < 0.4 else "generating"

    def _create(self) -> Response:
        return self.submit(self, self._read_task_request(read_json()), None)[1]

    def _read_task_request(self, body: dict[str, Any]) -> TaskRequest:
        values = load(_SCHEMA, body, 422)
        callback_url = values.get("callback_url")
        if callback_url is not None:
            allow_http = self.settings.allow_http
            check_callback_url(callback_url, "callBackUrl", allow_http=allow_http)
        options = values["input"]
        image = picture(options["aspect_ratio"], options["resolution"], options["output_format"])
        return TaskRequest(
            model=values["model"],
            prompt=options["prompt"],
            pictures=(image,),
            charge=TaskCharge(PRICES[options["resolution"]], "credits"),
            callback_url=callback_url,
        )

    def _show(self) -> Response:
        task = self.find(request.args.get("taskId", ""))
        if task is None:
            raise Refusal(404)
        view = self.present(task, task.outcome, Channel.QUERY)
        return jsonify({"code": 200, "message": "success", "data": view})


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
