"""HiAPI: one asynchronous endpoint for every model, with callbacks.

Source: HiAPI's page "Nano Banana 2" (`POST /v1/tasks`). Facts marked "(public)" come from HiAPI's
published documentation and SDK. The adapter tolerates them and does not depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from marshmallow import fields

from orchestrator.providers.api import (
    Accepted,
    Ambiguous,
    AnyInput,
    Call,
    Capabilities,
    ErrorCode,
    Family,
    JobError,
    Model,
    Provider,
    Rejected,
    Reply,
    Secret,
    States,
    Status,
    StrictSchema,
    TaskReport,
    always,
    callback_refusal,
    document_error,
    links,
    task_id,
    task_object,
    text,
    verify_timestamped_hex,
)

#: `error_code` of the envelope (public) -> our code, and whether the error may pass.
ERROR_CODES: Mapping[str, tuple[ErrorCode, bool]] = {
    "INVALID_REQUEST": (ErrorCode.INVALID_REQUEST, False),
    "MODEL_UNAVAILABLE": (ErrorCode.PROVIDER_UNAVAILABLE, True),
    "TASK_FAILED": (ErrorCode.GENERATION_FAILED, False),
    "TASK_TIMEOUT": (ErrorCode.TIMEOUT, True),
    "STORAGE_UNAVAILABLE": (ErrorCode.PROVIDER_UNAVAILABLE, True),
}

#: Answers about our idempotency key (public). Each proves that an earlier send of this attempt
#: arrived, so none of them is a refusal.
KEY_CODES = frozenset({"IDEMPOTENCY_KEY_PROCESSING", "IDEMPOTENCY_KEY_MISMATCH"})

#: Allowed difference of a signature's timestamp (public). Seconds.
SIGNATURE_TOLERANCE_SECONDS = 300

ASPECT_RATIOS = (
    "auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16",
    "16:9", "21:9",
)  # fmt: skip


class _NanoBanana2Input(StrictSchema):
    prompt = text(required=True)
    image_input = links()
    aspect_ratio = text(one_of=ASPECT_RATIOS)
    resolution = text(one_of=("1K", "2K", "4K"))
    output_format = text(one_of=("png", "jpg"))


class _NanoBanana2(StrictSchema):
    model = text(required=True, one_of=("Nano-Banana-2",))
    input = fields.Nested(_NanoBanana2Input, required=True, error_messages=always("a JSON object"))


class HiAPI(Provider):
    """HiAPI's API."""

    name = "hiapi"
    title = "HiAPI"
    base_url = "https://api.hiapi.ai"  # (public)
    capabilities = Capabilities(
        callbacks=True,
        signed_callbacks=True,  # (public)
        idempotency_seconds=86_400,  # (public) "about 24 h"
    )
    models: ClassVar[Mapping[str, Model]] = {
        "Nano-Banana-2": Model(
            _NanoBanana2(),
            {
                "prompt": ("input", "prompt"),
                "images": ("input", "image_input"),
                "aspect_ratio": ("input", "aspect_ratio"),
                "resolution": ("input", "resolution"),
                "output_format": ("input", "output_format"),
            },
            spellings={"output_format": {"jpeg": "jpg"}},
            priced_by={("input", "resolution"): "1K"},
        )
    }
    families: ClassVar[Mapping[str, Family]] = {"nano-banana-2": Family("Nano-Banana-2")}
    unlisted = Model(AnyInput(), {})
    states: ClassVar[States] = {
        **dict.fromkeys(("queued", "handling", "archiving")),  # (public)
        "success": Status.SUCCEEDED,
        "fail": Status.FAILED,
    }
    results = ("output",)

    def callback_refusal(self, url: str) -> str | None:
        """Accept an HTTPS URL."""
        return callback_refusal(url)

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Request a callback. `callback.when` has one documented value, `final`."""
        callback = {"callback": {"url": callback_url, "when": "final"}} if callback_url else {}
        return Call("POST", "/v1/tasks", {"Idempotency-Key": key}, {**body, **callback})

    def query_call(self, task_id: str) -> Call:
        """Query one task by its id."""
        return Call("GET", f"/v1/tasks/{quote(task_id, safe='')}")

    def read_submit(self, reply: Reply) -> Accepted | Rejected | Ambiguous:
        """Return Ambiguous for an answer about our own idempotency key."""
        reading = super().read_submit(reply)
        if isinstance(reading, Rejected) and reading.error.provider_code in KEY_CODES:
            return Ambiguous(reading.error.message, reading.retry_after)
        return reading

    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """Read `data.taskId`."""
        data = document.get("data")
        return Accepted(task_id((data if isinstance(data, dict) else document).get("taskId")))

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Read `{code, message, error_code}` (public)."""
        return document_error(status, document, ERROR_CODES)

    def unwrap(self, document: dict[str, Any]) -> Any:
        """Return `data`, which holds the task of a query. A callback's body is the task itself."""
        return document.get("data")

    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read `{taskId, status, output[{url, type, expireAt}], error{code, message}}`."""
        task = task_object(document)
        return self.report(
            task,
            task.get("taskId"),
            task.get("status"),
            now,
            error=task.get("error"),
            codes=ERROR_CODES,
        )

    def verify_callback(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret], now: int
    ) -> None:
        """Check X-HiAPI-Signature: hex HMAC-SHA256 over `timestamp.body` (public)."""
        verify_timestamped_hex(
            secrets,
            timestamp=headers.get("x-hiapi-timestamp"),
            signature=headers.get("x-hiapi-signature"),
            body=body,
            now=now // 1000,
            tolerance=SIGNATURE_TOLERANCE_SECONDS,
        )
