"""EvoLink: asynchronous image generations with callbacks.

Source: EvoLink's page "Nano Banana 2 Image Generation" (OpenAPI of `POST /v1/images/generations`).
Facts marked "(public)" come from EvoLink's published documentation. The adapter tolerates them and
does not depend on them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import quote

from orchestrator.providers.api import (
    Accepted,
    Call,
    Capabilities,
    Cost,
    ErrorCode,
    Family,
    JobError,
    Model,
    Provider,
    States,
    Status,
    StrictSchema,
    TaskReport,
    callback_refusal,
    document_error,
    links,
    task_id,
    task_object,
    text,
)

#: `error.type` of a refusal -> our code, and whether the error may pass.
ERROR_TYPES: Mapping[str, tuple[ErrorCode, bool]] = {
    "invalid_request_error": (ErrorCode.INVALID_REQUEST, False),
    "authentication_error": (ErrorCode.AUTHENTICATION, False),
    "insufficient_quota_error": (ErrorCode.INSUFFICIENT_CREDITS, False),
    "permission_error": (ErrorCode.PERMISSION, False),
    "not_found_error": (ErrorCode.NOT_FOUND, False),
    "request_too_large_error": (ErrorCode.TOO_LARGE, False),
    "rate_limit_error": (ErrorCode.RATE_LIMITED, True),
    "internal_server_error": (ErrorCode.PROVIDER_UNAVAILABLE, True),
    "upstream_error": (ErrorCode.PROVIDER_UNAVAILABLE, True),
    "service_unavailable_error": (ErrorCode.PROVIDER_UNAVAILABLE, True),
}

#: `error.code` of a failed task (public) -> our code, and whether the error may pass.
TASK_ERRORS: Mapping[str, tuple[ErrorCode, bool]] = {
    "content_policy_violation": (ErrorCode.CONTENT_POLICY, False),
    "invalid_parameters": (ErrorCode.INVALID_REQUEST, False),
    "image_processing_error": (ErrorCode.INVALID_REQUEST, False),
    "image_dimension_mismatch": (ErrorCode.INVALID_REQUEST, False),
    "request_cancelled": (ErrorCode.CANCELLED, False),
    "generation_failed_no_content": (ErrorCode.GENERATION_FAILED, True),
    "service_error": (ErrorCode.PROVIDER_UNAVAILABLE, True),
    "generation_timeout": (ErrorCode.TIMEOUT, True),
    "resource_exhausted": (ErrorCode.PROVIDER_UNAVAILABLE, True),
    "quota_exceeded": (ErrorCode.INSUFFICIENT_CREDITS, True),
    "service_unavailable": (ErrorCode.PROVIDER_UNAVAILABLE, True),
    "resource_not_found": (ErrorCode.NOT_FOUND, True),
    "unknown_error": (ErrorCode.UNKNOWN, True),
}

#: The page states the wait as text: "retry after 60 seconds".
_RETRY_HINT = re.compile(r"retry after (\d{1,4}) seconds?")

#: The longest `callback_url`. Characters.
MAX_CALLBACK_URL_CHARACTERS = 2048

SIZES = ("auto", "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")


class _Generation(StrictSchema):
    model = text(required=True, one_of=("nano-banana-2-lite", "gemini-3-pro-image-preview"))
    prompt = text(required=True, maximum=2000)
    size = text(one_of=SIZES)
    quality = text(one_of=("1K", "2K", "4K"))
    image_urls = links(maximum=10, endings=(".jpeg", ".jpg", ".png", ".webp"))


#: `size` is the aspect ratio, `quality` the resolution.
_GENERATION = Model(
    _Generation(),
    {
        "prompt": ("prompt",),
        "images": ("image_urls",),
        "aspect_ratio": ("size",),
        "resolution": ("quality",),
    },
    priced_by={("quality",): "2K"},
)


class EvoLink(Provider):
    """EvoLink's API."""

    name = "evolink"
    title = "EvoLink"
    base_url = "https://api.evolink.ai"
    capabilities = Capabilities(callbacks=True, links_live_seconds=86_400)
    #: `cancelled` is not in the task's enum, but the page documents callbacks for it.
    states: ClassVar[States] = {
        "pending": None,
        "processing": None,
        "completed": Status.SUCCEEDED,
        "failed": Status.FAILED,
        "cancelled": Status.CANCELLED,
    }
    results = ("results",)  # (public)
    #: The page answers a submission with these instead of a task.
    refusals = frozenset({"internal_server_error", "upstream_error", "service_unavailable_error"})
    models: ClassVar[Mapping[str, Model]] = {
        "nano-banana-2-lite": _GENERATION,
        "gemini-3-pro-image-preview": _GENERATION,
    }
    #: The page calls gemini-3-pro-image-preview "Nano Banana 2". Its maker calls the model Nano
    #: Banana Pro (public). So both families use this model, the dearer one of the two.
    families: ClassVar[Mapping[str, Family]] = dict.fromkeys(
        ("nano-banana-2", "nano-banana-pro"),
        Family("gemini-3-pro-image-preview", note="dearer than nano-banana-2-lite"),
    )

    def callback_refusal(self, url: str) -> str | None:
        """Accept HTTPS, a public host and at most 2048 characters."""
        return callback_refusal(url, public=True, longest=MAX_CALLBACK_URL_CHARACTERS)

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Send no idempotency key, because none is documented."""
        callback = {"callback_url": callback_url} if callback_url else {}
        return Call("POST", "/v1/images/generations", {}, {**body, **callback})

    def query_call(self, task_id: str) -> Call:
        """Query one task by its id (public)."""
        return Call("GET", f"/v1/tasks/{quote(task_id, safe='')}")

    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """Read the task object with `estimated_time` (seconds) and `credits_reserved`."""
        info, usage = document.get("task_info"), document.get("usage")
        estimate = info.get("estimated_time") if isinstance(info, dict) else None
        return Accepted(task_id(document.get("id")), _number(estimate), _cost(usage))

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Read `{error: {code, message, type, param?, fallback_suggestion?}}`."""
        error = document_error(status, document, {**TASK_ERRORS, **ERROR_TYPES})
        details = document.get("error")
        if error is None or not isinstance(details, dict):
            return error
        message = error.message
        if isinstance(details.get("param"), str):
            message = f"{message} ({details['param'][:100]})"
        if isinstance(details.get("fallback_suggestion"), str):
            message = f"{message}; {self.title} suggests: {details['fallback_suggestion'][:200]}"
        return replace(error, message=message)

    def hinted_retry_after(self, document: dict[str, Any]) -> float | None:
        """Read `fallback_suggestion: retry after 60 seconds`."""
        error = document.get("error")
        hint = error.get("fallback_suggestion") if isinstance(error, dict) else None
        match = _RETRY_HINT.search(hint) if isinstance(hint, str) else None
        return float(match[1]) if match else None

    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read `{id, status, results[], error{code, message}, usage}`, also from callbacks."""
        task = task_object(document)
        return self.report(
            task,
            task.get("id"),
            task.get("status"),
            now,
            error=task.get("error"),
            codes=TASK_ERRORS,
            cost=_cost(task.get("usage")),
        )


def _number(value: Any) -> float | None:
    sane = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
    return float(value) if sane else None


def _cost(usage: Any) -> Cost | None:
    amount = _number(usage.get("credits_reserved")) if isinstance(usage, dict) else None
    return None if amount is None else Cost(amount, "credits")
