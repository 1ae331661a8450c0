"""HiAPI, from its page "Nano Banana 2". Where the page is silent, from its SDK."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from typing import Any, ClassVar

from flask import Blueprint, Response, jsonify, request
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from .idempotency import KeyInFlightError, KeyMismatchError
from .pictures import picture
from .provider import EmulatedProvider, Refusal, TaskRequest
from .tasks import Task, TaskCharge, TaskOutcome, TaskStatus
from .thin_success import Channel
from .validation import check_callback_url, check_image_url, load, one_of, read_json

MODEL = "Nano-Banana-2"
ASPECT_RATIOS = (
    *("auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4"),
    *("8:1", "9:16", "16:9", "21:9"),
)
#: Price list of the sandbox itself, in credits. The document only refers to a pricing page.
PRICES = {"1K": 1.0, "2K": 1.5, "4K": 3.0}

#: Longest idempotency key. Bytes.
MAX_KEY_BYTES = 255
#: Retry-After of a request with a key that is in flight. Seconds.
IN_FLIGHT_RETRY_SECONDS = 1
PAGE_SIZE = 20

_ID_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MESSAGES = {
    400: "invalid request",
    401: "invalid api key",
    402: "insufficient credits",
    403: "access denied",
    404: "not found",
    429: "rate limit exceeded",
    500: "internal server error",
    502: "bad gateway",
    503: "service temporarily unavailable",
}
_FINAL_STATUSES = {
    TaskStatus.SUCCEEDED: "success",
    TaskStatus.FAILED: "fail",
    TaskStatus.CANCELLED: "fail",
}


class HiAPIInputSchema(Schema):
    """The field `input` of Nano-Banana-2."""

    prompt = fields.String(required=True, validate=validate.Length(min=1))
    image_input = fields.List(fields.String(validate=check_image_url), load_default=list)
    aspect_ratio = fields.String(load_default="auto", validate=one_of(ASPECT_RATIOS))
    resolution = fields.String(load_default="1K", validate=one_of(tuple(PRICES)))
    output_format = fields.String(load_default="png", validate=one_of(("png", "jpg")))


class HiAPICallbackSchema(Schema):
    """The field `callback`. Its URL is checked separately, because a setting changes the rules."""

    url = fields.String(required=True)
    when = fields.String(load_default="final", validate=one_of(("final",)))


class HiAPITaskSchema(Schema):
    """The body of a submission."""

    model = fields.String(required=True)
    input = fields.Nested(HiAPIInputSchema, required=True)
    callback = fields.Nested(HiAPICallbackSchema)
    #: The page does not name this field. The SDK sends it and names its default.
    route = fields.String(load_default="")

    @validates_schema
    def check_route(self, data: Mapping[str, Any], **_: Any) -> None:
        """Refuse a route other than the default one."""
        if data["route"] not in ("", "default"):
            raise ValidationError("Must be one of default.", "route")


_SCHEMA = HiAPITaskSchema()


class EmulatedHiAPI(EmulatedProvider):
    """Emulated HiAPI: bearer key, one endpoint, signed callbacks, idempotency keys."""

    name = "hiapi"
    title = "HiAPI"
    submit_path = "/v1/tasks"
    query_path = "/v1/tasks/"
    callback_field = ("callback", "url")
    example: ClassVar[Mapping[str, Any]] = {
        "model": "Nano-Banana-2",
        "input": {"prompt": "A red cube"},
    }
    retry_seconds = (1.0, 2.0, 4.0)
    link_ttl_seconds = 7 * 24 * 3600.0
    failure = TaskOutcome(
        TaskStatus.FAILED, "TASK_FAILED", "The content policy does not allow this prompt."
    )
    failures: ClassVar[Mapping[str, str]] = {
        "generation_failed": "TASK_FAILED",
        "timeout": "TASK_TIMEOUT",
        "unavailable": "MODEL_UNAVAILABLE",
    }
    result_fields = (("output",),)
    unsupported_faults: ClassVar[frozenset[str]] = frozenset({"cancelled"})

    def route(self, routes: Blueprint) -> None:
        """Add the routes to submit, query and list."""
        routes.add_url_rule(self.submit_path, "create", self._create, methods=["POST"])
        routes.add_url_rule("/v1/tasks", "list", self._list, methods=["GET"])
        routes.add_url_rule(f"{self.query_path}<task_id>", "show", self._show, methods=["GET"])

    def refuse(self, refusal: Refusal) -> Response:
        """Return `{code, message, data, error_code}`."""
        message = refusal.message or _MESSAGES.get(refusal.status, "request failed")
        envelope: dict[str, Any] = {"code": refusal.status, "message": message, "data": None}
        code = refusal.code or ("INVALID_REQUEST" if refusal.status == 400 else None)
        if code is not None:
            envelope["error_code"] = code
        answer = jsonify(envelope)
        answer.status_code = refusal.status
        return answer

    def accepted(self, task: Task) -> Response:
        """Return only the id of the task."""
        return _success({"taskId": task.id})

    def snapshot(
        self, task: Task, outcome: TaskOutcome | None, links: Sequence[str]
    ) -> dict[str, Any]:
        """Return the `data` of a query. It does not repeat the input."""
        view: dict[str, Any] = {
            "taskId": task.id,
            "model": task.model,
            "status": _FINAL_STATUSES[outcome.status] if outcome else self._phase(task),
            "created": int(task.created_at),
            "completed": int(task.finished_at or 0) if outcome else 0,
        }
        if outcome and outcome.status is TaskStatus.SUCCEEDED:
            expiry = self._expiry(task)
            view["output"] = [{"url": link, "type": "image", **expiry} for link in links]
        elif outcome:
            view["error"] = {"code": outcome.code, "message": outcome.message}
        return view

    def new_id(self) -> str:
        """Return `tk-hiapi-` and 26 characters."""
        return "tk-hiapi-01" + "".join(_ID_ALPHABET[byte % 32] for byte in secrets.token_bytes(24))

    def signature(self, body: bytes) -> Mapping[str, str]:
        """Return the signature headers, if a secret is set."""
        secret = self.webhook_secret
        return self._signed(body, secret) if secret else {}

    def wrong_signature(self, body: bytes) -> Mapping[str, str] | None:
        """Return headers that are signed with another secret."""
        secret = self.webhook_secret
        return self._signed(body, f"not {secret}") if secret else None

    def _signed(self, body: bytes, secret: str) -> Mapping[str, str]:
        timestamp = str(int(self.clock()))
        digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
        return {"X-HiAPI-Timestamp": timestamp, "X-HiAPI-Signature": digest.hexdigest()}

    def _expiry(self, task: Task) -> dict[str, object]:
        """Return the time when the links expire, in the form of `expire_at`."""
        expires = int(task.links_expire_at() or 0)
        forms: Mapping[str | None, dict[str, object]] = {
            None: {"expireAt": expires},
            "seconds": {"expireAt": 3600},
            "past": {"expireAt": int(self.clock()) - 3600},
            "milliseconds": {"expireAt": expires * 1000},
            "text": {"expireAt": formatdate(expires, usegmt=True)},
            "missing": {},
        }
        return forms[task.faults.form("expire_at")]

    def _phase(self, task: Task) -> str:
        progress = task.progress(self.clock())
        if progress < 0.2:
            return "queued"
        return "handling" if progress < 0.8 else "archiving"

    def _create(self) -> Response:
        task_request = self._read_task_request(read_json())
        key = task_request.idempotency_key
        if key is None:
            return self.submit(self, task_request, None)[1]
        try:
            answer, resent = self.submit_once(task_request, key)
        except KeyMismatchError:
            message = "Idempotency-Key was already used with a different request body"
            raise Refusal(422, message, code="IDEMPOTENCY_KEY_MISMATCH") from None
        except KeyInFlightError:
            raise Refusal(
                409,
                "the first request with this Idempotency-Key is still being processed",
                code="IDEMPOTENCY_KEY_PROCESSING",
                retry_after=IN_FLIGHT_RETRY_SECONDS,
            ) from None
        if resent:
            answer.headers["Idempotent-Replay"] = "true"
        return answer

    def _read_task_request(self, body: dict[str, Any]) -> TaskRequest:
        model = body.get("model")
        if isinstance(model, str) and model != MODEL:
            message = f"model {model!r} is not available; available: {MODEL}"
            raise Refusal(400, message, field="model", code="MODEL_UNAVAILABLE")
        values = load(_SCHEMA, body)
        callback_url = values["callback"]["url"] if "callback" in values else None
        if callback_url is not None:
            allow_http = self.settings.allow_http
            check_callback_url(callback_url, "callback.url", allow_http=allow_http)
        options = values["input"]
        image = picture(options["aspect_ratio"], options["resolution"], options["output_format"])
        return TaskRequest(
            model=values["model"],
            prompt=options["prompt"],
            pictures=(image,),
            charge=TaskCharge(PRICES[options["resolution"]], "credits"),
            callback_url=callback_url,
            idempotency_key=_idempotency_key(),
        )

    def _show(self, task_id: str) -> Response:
        task = self.find(task_id)
        if task is None:
            raise Refusal(404, "task not found")
        return _success(self.present(task, task.outcome, Channel.QUERY))

    def _list(self) -> Response:
        page = _in_range("page", 1, None)
        size = _in_range("size", PAGE_SIZE, 100)
        view = [task for task in self.store.newest_first(self.name) if "forget" not in task.faults]
        tasks = [
            self.present(task, task.outcome, Channel.SUBMISSION)
            for task in view[(page - 1) * size : page * size]
        ]
        return _success({"page": page, "size": size, "total": len(view), "tasks": tasks})


def _success(data: dict[str, Any]) -> Response:
    return jsonify({"code": 200, "message": "success", "data": data})


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key") or None
    if key is not None and len(key.encode()) > MAX_KEY_BYTES:
        raise Refusal(400, f"Idempotency-Key must not exceed {MAX_KEY_BYTES} bytes")
    return key


def _in_range(name: str, default: int, maximum: int | None) -> int:
    # As on the published list page, a value out of range means the default and not an error.
    value = request.args.get(name, default, type=int)
    return value if value >= 1 and (maximum is None or value <= maximum) else default
