"""EvoLink, from its page "Nano Banana 2 Image Generation"."""

import math
import secrets
import string
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify
from marshmallow import Schema, ValidationError, fields, validate

from .pictures import picture
from .provider import EmulatedProvider, Refusal, TaskRequest
from .tasks import Task, TaskCharge, TaskOutcome, TaskStatus
from .thin_success import Channel
from .validation import check_callback_url, check_image_url, load, one_of, read_json

MODELS = ("nano-banana-2-lite", "gemini-3-pro-image-preview")
SIZES = (*("auto", "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"),)
#: Credits of a task. 1.6 is the example of the document. 4K costs more, but no price is documented.
CREDITS = {"1K": 1.6, "2K": 1.6, "4K": 3.2}

MAX_PROMPT_CHARS = 2000
MAX_IMAGES = 10
MAX_CALLBACK_URL_CHARS = 2048
#: The wait that the document suggests after a 429. Seconds.
RETRY_SECONDS = 60
ID_PREFIX = "task-unified-"

_IMAGE_SUFFIXES = ("", ".jpeg", ".jpg", ".png", ".webp")
_ID_ALPHABET = string.ascii_lowercase + string.digits

#: Errors by HTTP status: type, message and suggestion.
_ERRORS: Mapping[int, tuple[str, str, str | None]] = {
    400: ("invalid_request_error", "Invalid request parameters", None),
    401: ("authentication_error", "Invalid or expired token", None),
    402: (
        "insufficient_quota_error",
        "Insufficient quota",
        "https://evolink.ai/dashboard/billing",
    ),
    403: ("permission_error", "Access denied for this model", None),
    404: ("not_found_error", "Resource not found", None),
    405: ("invalid_request_error", "Method not allowed", None),
    413: ("request_too_large_error", "Request body too large", None),
    429: ("rate_limit_error", "Rate limit exceeded", "retry after {retry_after} seconds"),
    500: ("internal_server_error", "Internal server error", "try again later"),
    502: ("upstream_error", "Upstream service error", "try again later"),
    503: (
        "service_unavailable_error",
        "Service temporarily unavailable",
        "retry after 30 seconds",
    ),
}
_FINAL_STATUSES = {
    TaskStatus.SUCCEEDED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "cancelled",
}


def _check_image_url(url: str) -> None:
    check_image_url(url)
    # The document says only that links usually have a suffix, so a link without one is accepted.
    if PurePosixPath(urlsplit(url).path).suffix.lower() not in _IMAGE_SUFFIXES:
        raise ValidationError("Must be a .jpeg, .jpg, .png or .webp image.")


class EvoLinkTaskSchema(Schema):
    """The body of a submission. `callback_url` is checked separately."""

    model = fields.String(required=True)
    prompt = fields.String(required=True, validate=validate.Length(min=1, max=MAX_PROMPT_CHARS))
    size = fields.String(load_default="auto", validate=one_of(SIZES))
    quality = fields.String(load_default="2K", validate=one_of(tuple(CREDITS)))
    image_urls = fields.List(
        fields.String(validate=_check_image_url),
        load_default=list,
        validate=validate.Length(max=MAX_IMAGES),
    )
    callback_url = fields.String()


_SCHEMA = EvoLinkTaskSchema()


class EmulatedEvoLink(EmulatedProvider):
    """Emulated EvoLink: bearer key, no envelope, unsigned callbacks, no idempotency keys."""

    name = "evolink"
    title = "EvoLink"
    submit_path = "/v1/images/generations"
    query_path = "/v1/tasks/"
    callback_field = ("callback_url",)
    example: ClassVar[Mapping[str, Any]] = {
        "model": "nano-banana-2-lite",
        "prompt": "A red cube",
    }
    retry_seconds = (1.0, 2.0, 4.0)
    link_ttl_seconds = 24 * 3600.0
    failure = TaskOutcome(
        TaskStatus.FAILED, "content_policy_violation", "The request was blocked by a safety filter."
    )
    failures: ClassVar[Mapping[str, str]] = {
        "generation_failed": "generation_failed_no_content",
        "timeout": "generation_timeout",
        "unavailable": "service_unavailable",
    }

    result_fields = (("results",),)
    unsupported_faults: ClassVar[frozenset[str]] = frozenset({"expire_at"})

    def route(self, routes: Blueprint) -> None:
        """Add the routes to submit and query."""
        routes.add_url_rule(self.submit_path, "create", self._create, methods=["POST"])
        routes.add_url_rule(f"{self.query_path}<task_id>", "show", self._show, methods=["GET"])

    def refuse(self, refusal: Refusal) -> Response:
        """Return `{error: {code, message, type, param?, fallback_suggestion?}}`."""
        kind, words, hint = _ERRORS.get(refusal.status, _ERRORS[500])
        error: dict[str, Any] = {
            "code": refusal.code or refusal.status,
            "message": refusal.message or words,
            "type": kind,
        }
        if refusal.field:
            error["param"] = refusal.field
        hint = refusal.hint or hint
        if hint:
            wait = refusal.retry_after or RETRY_SECONDS
            error["fallback_suggestion"] = hint.format(retry_after=wait)
        answer = jsonify({"error": error})
        answer.status_code = refusal.status
        return answer

    def accepted(self, task: Task) -> Response:
        """Return the new task with its reserved credits, even if it has ended already."""
        estimate = math.ceil(self.settings.task_seconds)
        return jsonify(
            {
                **self._head(task),
                "progress": 0,
                "status": "pending",
                "task_info": {"can_cancel": True, "estimated_time": estimate},
                "usage": {
                    "billing_rule": "per_call",
                    "credits_reserved": task.charge.amount,
                    "user_group": "default",
                },
            }
        )

    def snapshot(
        self, task: Task, outcome: TaskOutcome | None, links: Sequence[str]
    ) -> dict[str, Any]:
        """Return the task in the form of queries and callbacks."""
        view: dict[str, Any] = {
            **self._head(task),
            "progress": int(100 * task.progress(self.clock())),
            "status": self._phase(task),
            "task_info": {"can_cancel": outcome is None},
        }
        if outcome is None:
            return view
        view["status"] = _FINAL_STATUSES[outcome.status]
        if outcome.status is TaskStatus.SUCCEEDED:
            view |= {"progress": 100, "results": list(links)}
        else:
            view["progress"] = 0
        if outcome.status is TaskStatus.FAILED:
            view["error"] = {"code": outcome.code, "message": outcome.message}
        return view

    def new_id(self) -> str:
        """Return `task-unified-`, the Unix time and eight characters."""
        tail = "".join(_ID_ALPHABET[byte % 36] for byte in secrets.token_bytes(8))
        return f"{ID_PREFIX}{int(self.clock())}-{tail}"

    def _head(self, task: Task) -> dict[str, Any]:
        return {
            "created": int(task.created_at),
            "id": task.id,
            "model": task.model,
            "object": "image.generation.task",
            "type": "image",
        }

    def _phase(self, task: Task) -> str:
        return "pending" if task.progress(self.clock()) < 0.2 else "processing"

    def _create(self) -> Response:
        return self.submit(self, self._read_task_request(read_json()), None)[1]

    def _read_task_request(self, body: dict[str, Any]) -> TaskRequest:
        model = body.get("model")
        if isinstance(model, str) and model not in MODELS:
            raise Refusal(404, "Specified model not found", field="model", hint=MODELS[1])
        values = load(_SCHEMA, body)
        callback_url = values.get("callback_url")
        if callback_url is not None:
            check_callback_url(
                callback_url,
                "callback_url",
                allow_http=self.settings.allow_http,
                private=False,
                max_chars=MAX_CALLBACK_URL_CHARS,
            )
        return TaskRequest(
            model=values["model"],
            prompt=values["prompt"],
            pictures=(picture(values["size"], values["quality"], "png"),),
            charge=TaskCharge(CREDITS[values["quality"]], "credits"),
            callback_url=callback_url,
        )

    def _show(self, task_id: str) -> Response:
        if not task_id.startswith(ID_PREFIX):
            message = f"Invalid task ID format, must start with '{ID_PREFIX}'"
            raise Refusal(400, message, field="task_id", code="invalid_task_id")
        task = self.find(task_id)
        if task is None:
            raise Refusal(404, "Task not found", field="task_id")
        return jsonify(self.present(task, task.outcome, Channel.QUERY))
