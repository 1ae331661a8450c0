"""fal, from its public documents: "Queue API", "Inference API", "Webhooks" and their neighbours."""

import base64
import hashlib
import re
import uuid
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Blueprint, Response, g, jsonify, request
from marshmallow import INCLUDE, Schema, fields, validate

from .pictures import picture
from .provider import EmulatedProvider, Refusal, TaskRequest
from .tasks import Task, TaskCharge, TaskOutcome, TaskStatus
from .thin_success import Channel
from .validation import check_callback_url, check_image_url, load, one_of, read_json

#: The named sizes of the flux models, as ratios.
SIZES = {
    "square_hd": "1:1",
    "square": "1:1",
    "portrait_4_3": "3:4",
    "portrait_16_9": "9:16",
    "landscape_4_3": "4:3",
    "landscape_16_9": "16:9",
}
RATIOS = ("auto", "21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16")
#: Price list of the sandbox itself, in US dollars for an image.
PRICE_USD = 0.003
#: The user that owns the API key of the sandbox.
USER_ID = "sandbox"

_DETAILS = {
    400: "Bad request",
    401: "No user found for Key ID and Secret",
    402: "User is locked. Reason: Exhausted balance.",
    403: "Access denied",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Too many requests",
    504: "Gateway timeout",
}
#: Types of the errors of requests that have one.
_TYPES = {400: "bad_request", 500: "internal_error", 503: "runner_scheduling_failure"}
_REQUEST_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: HTTP statuses of the model's errors that are not 422.
_STATUSES = {"generation_timeout": 504, "internal_server_error": 500}


class FalRequestSchema(Schema):
    """The input of an image model. Each model has more fields, which the sandbox accepts."""

    class Meta:
        """Fields of single models are accepted."""

        unknown = INCLUDE

    prompt = fields.String(required=True, validate=validate.Length(min=1))
    image_urls = fields.List(fields.String(validate=check_image_url), load_default=list)
    image_size = fields.String(load_default="square_hd", validate=one_of(tuple(SIZES)))
    aspect_ratio = fields.String(validate=one_of(RATIOS))
    resolution = fields.String(load_default="1K", validate=one_of(("0.5K", "1K", "2K", "4K")))
    output_format = fields.String(load_default="png", validate=one_of(("jpeg", "png", "webp")))
    num_images = fields.Integer(strict=True, load_default=1, validate=validate.Range(1, 4))


_SCHEMA = FalRequestSchema()


class EmulatedFal(EmulatedProvider):
    """Emulated fal: a queue, a key with the scheme `Key`, callbacks signed by Ed25519."""

    name = "fal"
    title = "fal"
    submit_path = "/fal-ai/flux/schnell"
    query_path = "/fal-ai/flux/requests/"
    auth_scheme = "key"
    key_set_path = "/.well-known/jwks.json"
    queries_status = True
    example: ClassVar[Mapping[str, Any]] = {"prompt": "A red cube"}
    retry_seconds = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0)
    link_ttl_seconds = 7 * 24 * 3600.0
    failure = TaskOutcome(
        TaskStatus.FAILED,
        "content_policy_violation",
        "The content could not be processed because it was flagged by a content checker.",
    )
    failures: ClassVar[Mapping[str, str]] = {
        "generation_failed": "no_media_generated",
        "timeout": "generation_timeout",
        "unavailable": "internal_server_error",
    }
    result_fields = (("payload", "images"),)
    unsupported_faults: ClassVar[frozenset[str]] = frozenset({"cancelled", "expire_at"})

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._key, self._wrong_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()

    def route(self, routes: Blueprint) -> None:
        """Add the routes of the queue, and of the public keys."""
        routes.add_url_rule(self.key_set_path, "keys", self._keys, methods=["GET"])
        routes.add_url_rule("/<path:model>", "create", self._create, methods=["POST"])
        one = "/<owner>/<app>/requests/<task_id>"
        routes.add_url_rule(f"{one}/status", "status", self._show_status, methods=["GET"])
        routes.add_url_rule(one, "show", self._show, methods=["GET"])

    def refuse(self, refusal: Refusal) -> Response:
        """Return `{detail, error_type}`, or the model's list of details for a wrong field."""
        words = refusal.message or _DETAILS.get(refusal.status, "Internal server error")
        detail: Any = words
        if refusal.field:
            place = ["body", *refusal.field.split(".")]
            detail = [{"loc": place, "msg": words, "type": "value_error"}]
        answer = jsonify({"detail": detail})
        if not refusal.field and refusal.status in _TYPES:
            answer = jsonify({"detail": detail, "error_type": _TYPES[refusal.status]})
        answer.status_code = refusal.status
        return answer

    def accepted(self, task: Task) -> Response:
        """Return the id of the request and its addresses."""
        address = f"{task.link_base}/{self.name}/{_app(task)}/requests/{task.id}"
        return jsonify(
            {
                "request_id": task.id,
                "gateway_request_id": task.id,
                "response_url": address,
                "status_url": f"{address}/status",
                "cancel_url": f"{address}/cancel",
                "queue_position": 0,
                "status": "IN_QUEUE",
            }
        )

    def snapshot(
        self, task: Task, outcome: TaskOutcome | None, links: Sequence[str]
    ) -> dict[str, Any]:
        """Return the body of a callback. Its payload is the answer to a query of the result."""
        view = {"request_id": task.id, "gateway_request_id": task.id}
        if outcome is None:
            waits = task.progress(self.clock()) < 0.2
            return {**view, "status": "IN_QUEUE" if waits else "IN_PROGRESS"}
        if outcome.status is TaskStatus.SUCCEEDED:
            images = [{"url": link, "content_type": "image/png", "width": 512} for link in links]
            output = {"images": images, "seed": 196_619_188_014_358_660, "prompt": task.prompt}
            return {**view, "status": "OK", "error": None, "payload": output}
        error = f"Invalid status code: {_status(outcome)}"
        return {**view, "status": "ERROR", "error": error, "payload": _details(outcome)}

    def add_error(self, view: MutableMapping[str, Any], outcome: TaskOutcome) -> None:
        """Add the reason of a failure to the output."""
        view["payload"] = {**view["payload"], **_details(outcome)}

    def new_id(self) -> str:
        """Return a UUID."""
        return str(uuid.uuid4())

    def signature(self, body: bytes) -> Mapping[str, str]:
        """Return the headers of a signature with the sandbox's own key."""
        return self._signed(body, self._key)

    def wrong_signature(self, body: bytes) -> Mapping[str, str] | None:
        """Return headers that are signed with a key which is not in the set."""
        return self._signed(body, self._wrong_key)

    def _signed(self, body: bytes, key: Ed25519PrivateKey) -> Mapping[str, str]:
        # Faults may give the body another form. Then the id is looked for in its text.
        found = _REQUEST_ID.search(body)
        named = found.group().decode() if found else self.new_id()
        timestamp = str(int(self.clock()))
        signed = "\n".join((named, USER_ID, timestamp, hashlib.sha256(body).hexdigest()))
        return {
            "X-Fal-Webhook-Request-Id": named,
            "X-Fal-Webhook-User-Id": USER_ID,
            "X-Fal-Webhook-Timestamp": timestamp,
            "X-Fal-Webhook-Signature": key.sign(signed.encode()).hex(),
        }

    def _keys(self) -> Response:
        text = base64.urlsafe_b64encode(self._key.public_key().public_bytes_raw()).decode()
        key = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "sandbox"}
        return jsonify({"keys": [{**key, "x": text.rstrip("=")}]})

    def _create(self, model: str) -> Response:
        return self.submit(self, self._read_task_request(model, read_json()), None)[1]

    def _read_task_request(self, model: str, body: dict[str, Any]) -> TaskRequest:
        options = load(_SCHEMA, body, 422)
        webhook = request.args.get("fal_webhook")
        if webhook is not None:
            check_callback_url(webhook, "fal_webhook", allow_http=self.settings.allow_http)
        ratio = options.get("aspect_ratio", SIZES[options["image_size"]])
        image = picture(ratio, options["resolution"], options["output_format"])
        count = options["num_images"]
        return TaskRequest(
            model=model,
            prompt=options["prompt"],
            pictures=(image,) * count,
            charge=TaskCharge(PRICE_USD * count, "USD"),
            callback_url=webhook,
        )

    def _show_status(self, owner: str, app: str, task_id: str) -> Response:
        task = self.find(task_id)
        if task is None or _app(task) != f"{owner}/{app}":
            raise Refusal(404)
        view = self.snapshot(task, task.outcome, ())
        status = "COMPLETED" if task.outcome else view["status"]
        address = f"{task.link_base}/{self.name}/{_app(task)}/requests/{task.id}"
        answer = jsonify({"status": status, "request_id": task.id, "response_url": address})
        answer.status_code = 200 if task.outcome else 202
        return answer

    def _show(self, owner: str, app: str, task_id: str) -> Response:
        task = self.store.get(task_id, self.name)
        if task is None or "forget" in task.faults or _app(task) != f"{owner}/{app}":
            raise Refusal(404)
        if task.outcome is None:
            raise Refusal(400, "Request is still in progress")
        g.task = task
        answer = jsonify(self.present(task, task.outcome, Channel.QUERY)["payload"])
        failed = task.outcome.status is not TaskStatus.SUCCEEDED
        answer.status_code = _status(task.outcome) if failed else 200
        return answer


def _app(task: Task) -> str:
    """Return owner and app of the task's model. The addresses of a request have no more."""
    return "/".join(task.model.split("/")[:2])


def _status(outcome: TaskOutcome) -> int:
    return _STATUSES.get(outcome.code, 422)


def _details(outcome: TaskOutcome) -> dict[str, Any]:
    return {"detail": [{"loc": ["body"], "msg": outcome.message, "type": outcome.code}]}
