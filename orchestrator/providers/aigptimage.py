"""AI GPT Image: polled tasks whose results are JSON inside a JSON string.

Source: AI GPT Image's page "Nano Banana 2 Text to Image API" (`createTask`, `recordInfo`). Facts
marked "(public)" come from its published documentation. The adapter tolerates them and does not
depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from marshmallow import fields

from orchestrator.providers.api import (
    Accepted,
    Ambiguous,
    Call,
    Capabilities,
    Family,
    JobError,
    Model,
    Provider,
    Rejected,
    Reply,
    States,
    Status,
    StrictSchema,
    TaskReport,
    always,
    document_error,
    task_id,
    task_object,
    text,
)

#: The envelope's code of a success.
OK = 200

ASPECT_RATIOS = (
    "auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16",
    "16:9", "21:9",
)  # fmt: skip


class _Input(StrictSchema):
    prompt = text(required=True, maximum=20_000)
    aspect_ratio = text(one_of=ASPECT_RATIOS)
    resolution = text(one_of=("1K", "2K", "4K"))
    output_format = text(one_of=("png", "jpg"))


class _TextToImage(StrictSchema):
    model = text(required=True)
    input = fields.Nested(_Input, required=True, error_messages=always("a JSON object"))


class AIGPTImage(Provider):
    """AI GPT Image's API."""

    name = "aigptimage"
    title = "AI GPT Image"
    base_url = "https://aigptimage.com"
    capabilities = Capabilities(idempotency_seconds=86_400)  # (public); the lifetime is our guess
    models: ClassVar[Mapping[str, Model]] = {
        "nano-banana-2-text-to-image": Model(
            _TextToImage(),
            {
                "prompt": ("input", "prompt"),
                "aspect_ratio": ("input", "aspect_ratio"),
                "resolution": ("input", "resolution"),
                "output_format": ("input", "output_format"),
            },
            spellings={"output_format": {"jpeg": "jpg"}},
            priced_by={("input", "resolution"): "1K"},
        )
    }
    states: ClassVar[States] = {
        "waiting": None,  # (public)
        **dict.fromkeys(("queuing", "generating")),  # seen at APIs of the same form
        "success": Status.SUCCEEDED,
        "fail": Status.FAILED,
    }
    results = ("resultJson.resultUrls", "resultJson")
    families: ClassVar[Mapping[str, Family]] = {
        "nano-banana-2": Family("nano-banana-2-text-to-image")
    }

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Send `X-Request-ID` as the idempotency key (public). No callbacks are documented."""
        return Call("POST", "/api/v1/jobs/createTask", {"X-Request-ID": key}, body)

    def query_call(self, task_id: str) -> Call:
        """Query one task. The task id is a query parameter."""
        return Call("GET", f"/api/v1/jobs/recordInfo?taskId={quote(task_id, safe='')}")

    def read_submit(self, reply: Reply) -> Accepted | Rejected | Ambiguous:
        """Return Ambiguous when HTTP status and envelope contradict each other."""
        document = reply.object() or {}
        if reply.status // 100 != 2 and _code(document) == OK:
            reason = f"HTTP {reply.status} with an envelope code {OK}"
            return Ambiguous(reason, reply.retry_after())
        return super().read_submit(reply)

    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """Read `{code: 200, msg, data: {taskId}}`."""
        data = document.get("data")
        return Accepted(task_id((data if isinstance(data, dict) else document).get("taskId")))

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Read `{code, msg}`. The code counts before the HTTP status."""
        return None if _code(document) == OK else document_error(status, document, {})

    def unwrap(self, document: dict[str, Any]) -> Any:
        """Return `data`, unless the envelope reports an error."""
        return document.get("data") if (_code(document) or OK) < 400 else None

    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read `{taskId, state, resultJson, failCode, failMsg}`."""
        task = task_object(document)
        return self.report(task, task.get("taskId"), task.get("state"), now)


def _code(document: Mapping[str, Any]) -> int | None:
    code = document.get("code")
    return code if isinstance(code, int) and not isinstance(code, bool) else None
