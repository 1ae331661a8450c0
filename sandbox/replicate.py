"""Replicate, from its public documents: "Create a prediction", "Webhooks" and their neighbours."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from flask import Blueprint, Response, jsonify
from marshmallow import INCLUDE, Schema, fields, validate

from .pictures import picture
from .provider import EmulatedProvider, Refusal, TaskRequest
from .signing import read_secret, sign
from .tasks import Task, TaskCharge, TaskOutcome, TaskStatus
from .thin_success import Channel
from .validation import check_callback_url, check_image_url, load, one_of, read_json

RATIOS = (
    *("match_input_image", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4"),
    *("8:1", "9:16", "9:21", "16:9", "21:9"),
)
EVENTS = ("start", "output", "logs", "completed")
#: Models whose output is one link. The output of the others is a list.
ONE_LINK = "google/"
#: Price list of the sandbox itself, in US dollars for an image.
PRICE_USD = 0.003

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TITLES = {
    400: ("Bad request", "The request could not be read."),
    401: ("Unauthenticated", "You did not pass a valid authentication token."),
    402: ("Insufficient credit", "You have insufficient credit to run this model."),
    403: ("Permission denied", "You do not have permission to do this."),
    404: ("Not found", "The requested resource could not be found."),
    405: ("Method not allowed", "This method is not allowed."),
    422: ("Input validation failed", "The input is not valid."),
}
_FINAL_STATUSES = {
    TaskStatus.SUCCEEDED: "succeeded",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "canceled",
}


class ReplicateInputSchema(Schema):
    """The input of an image model. Each model has more fields, which the sandbox accepts."""

    class Meta:
        """Fields of single models are accepted."""

        unknown = INCLUDE

    prompt = fields.String(required=True, validate=validate.Length(min=1))
    image_input = fields.List(fields.String(validate=check_image_url), load_default=list)
    aspect_ratio = fields.String(load_default="1:1", validate=one_of(RATIOS))
    resolution = fields.String(load_default="1K", validate=one_of(("1K", "2K", "4K")))
    output_format = fields.String(load_default="png", validate=one_of(("webp", "jpg", "png")))
    num_outputs = fields.Integer(
        strict=True, load_default=1, validate=validate.Range(1, 4, error="Must be from 1 to 4.")
    )


class ReplicatePredictionSchema(Schema):
    """The body of a submission."""

    version = fields.String(required=True, validate=validate.Length(min=1))
    input = fields.Nested(ReplicateInputSchema, required=True)
    webhook = fields.String()
    webhook_events_filter = fields.List(fields.String(validate=one_of(EVENTS)))


_SCHEMA = ReplicatePredictionSchema()


class EmulatedReplicate(EmulatedProvider):
    """Emulated Replicate: bearer key, one endpoint, callbacks signed by Standard Webhooks."""

    name = "replicate"
    title = "Replicate"
    submit_path = "/v1/predictions"
    query_path = "/v1/predictions/"
    callback_field = ("webhook",)
    standard_webhooks = True
    example: ClassVar[Mapping[str, Any]] = {
        "version": "black-forest-labs/flux-schnell",
        "input": {"prompt": "A red cube"},
    }
    retry_seconds = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    link_ttl_seconds = 3600.0
    failure = TaskOutcome(
        TaskStatus.FAILED, "", "NSFW content detected. Try running it again, or a different prompt."
    )
    failures: ClassVar[Mapping[str, str]] = {"timeout": "E6716", "unavailable": "E1000"}
    result_fields = (("output",),)
    unsupported_faults: ClassVar[frozenset[str]] = frozenset({"expire_at"})

    def route(self, routes: Blueprint) -> None:
        """Add the routes to submit and query."""
        routes.add_url_rule(self.submit_path, "create", self._create, methods=["POST"])
        routes.add_url_rule(f"{self.query_path}<task_id>", "show", self._show, methods=["GET"])

    def refuse(self, refusal: Refusal) -> Response:
        """Return the problem `{title, detail, status}`. A 429 has only a `detail`."""
        title, words = _TITLES.get(refusal.status, ("Error", "Something went wrong."))
        problem: dict[str, Any] = {"detail": refusal.message or words}
        if refusal.status == 429:
            problem = {"detail": "Request was throttled."}
            if refusal.retry_after is not None:
                problem["detail"] += f" Your rate limit resets in ~{refusal.retry_after}s."
        else:
            problem |= {"title": title, "status": refusal.status}
        answer = jsonify(problem)
        answer.status_code = refusal.status
        return answer

    def accepted(self, task: Task) -> Response:
        """Return the new prediction with 201."""
        answer = jsonify(self.present(task, task.outcome, Channel.SUBMISSION))
        answer.status_code = 201
        return answer

    def snapshot(
        self, task: Task, outcome: TaskOutcome | None, links: Sequence[str]
    ) -> dict[str, Any]:
        """Return the prediction, as queries and callbacks show it."""
        view: dict[str, Any] = {
            "id": task.id,
            "model": task.model.partition(":")[0],
            "version": "hidden",
            "input": {"prompt": task.prompt},
            "logs": "",
            "output": None,
            "error": None,
            "data_removed": False,
            "status": _FINAL_STATUSES[outcome.status] if outcome else self._phase(task),
            "created_at": _time(task.created_at),
            "started_at": None if self._phase(task) == "starting" else _time(task.created_at),
            "completed_at": _time(task.finished_at) if outcome else None,
            "urls": {"get": f"{task.link_base}/{self.name}{self.query_path}{task.id}"},
        }
        if outcome and outcome.status is TaskStatus.SUCCEEDED:
            one = task.model.startswith(ONE_LINK) and len(links) == 1
            view["output"] = links[0] if one else list(links)
            view["metrics"] = {"predict_time": task.run_seconds}
        elif outcome and outcome.status is TaskStatus.FAILED:
            view["error"] = _sentence(outcome)
        return view

    def add_error(self, view: Any, outcome: TaskOutcome) -> None:
        """Add the reason of a failure. It is a sentence, which may name a code."""
        view["error"] = _sentence(outcome)

    def new_id(self) -> str:
        """Return 26 letters and digits."""
        return "".join(_ID_ALPHABET[byte % 32] for byte in secrets.token_bytes(26))

    def signature(self, body: bytes) -> Mapping[str, str]:
        """Return the headers of Standard Webhooks, if a secret is set."""
        secret = self.webhook_secret
        return self._signed(body, read_secret(secret)) if secret else {}

    def wrong_signature(self, body: bytes) -> Mapping[str, str] | None:
        """Return headers that are signed with another secret."""
        secret = self.webhook_secret
        return self._signed(body, b"not " + read_secret(secret)) if secret else None

    def _signed(self, body: bytes, key: bytes) -> Mapping[str, str]:
        message_id, timestamp = f"msg_{secrets.token_hex(12)}", str(int(self.clock()))
        return {
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(key, message_id, timestamp, body),
        }

    def _phase(self, task: Task) -> str:
        return "starting" if task.progress(self.clock()) < 0.2 else "processing"

    def _create(self) -> Response:
        return self.submit(self, self._read_task_request(read_json()), None)[1]

    def _read_task_request(self, body: dict[str, Any]) -> TaskRequest:
        values = load(_SCHEMA, body, 422)
        webhook = values.get("webhook")
        if webhook is not None:
            check_callback_url(webhook, "webhook", allow_http=self.settings.allow_http)
        options = values["input"]
        ratio = options["aspect_ratio"]
        ratio = "auto" if ratio == "match_input_image" else ratio
        image = picture(ratio, options["resolution"], options["output_format"])
        count = options["num_outputs"]
        return TaskRequest(
            model=values["version"],
            prompt=options["prompt"],
            pictures=(image,) * count,
            charge=TaskCharge(PRICE_USD * count, "USD"),
            callback_url=webhook,
        )

    def _show(self, task_id: str) -> Response:
        task = self.find(task_id)
        if task is None:
            raise Refusal(404)
        return jsonify(self.present(task, task.outcome, Channel.QUERY))


def _sentence(outcome: TaskOutcome) -> str:
    return f"{outcome.message} ({outcome.code})" if outcome.code else outcome.message


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
