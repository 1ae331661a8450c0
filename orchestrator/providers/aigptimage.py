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
    NotJson,
    Outcome,
    Provider,
    Rejected,
    Reply,
    StrictSchema,
    TaskReport,
    Unreadable,
    always,
    by_status,
    failure,
    images,
    parse,
    succeeded,
    task_id,
    text,
    words,
)

#: Terminal states. Every other state counts as running: waiting (public), queuing, generating, new
#: ones.
SUCCESS, FAIL = "success", "fail"
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
        if _code(document) not in (OK, None):
            raise Unreadable("the envelope reports no success")
        data = document.get("data")
        return Accepted(task_id(data.get("taskId") if isinstance(data, dict) else None))

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Read `{code, msg}`. The code counts before the HTTP status.

        The page lists no error below 400. Without such a code the HTTP status counts. A 5xx without
        a code may come from a gateway.
        """
        code, message = _code(document), document.get("msg")
        if code is not None and code >= 400:
            effective = code
        elif code != OK and 400 <= status < 500 and isinstance(message, str):
            effective = status
        else:
            return None
        ours, retryable = by_status(effective)
        return JobError(ours, words(message, f"code {effective}"), str(effective), retryable)

    def unwrap(self, document: dict[str, Any]) -> Any:
        """Return `data`, if the envelope reports a success."""
        return document.get("data") if _code(document) in (OK, None) else None

    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read `{taskId, state, resultJson, failCode, failMsg}`."""
        if not isinstance(document, dict) or not isinstance(document.get("state"), str):
            raise Unreadable("an AI GPT Image task is an object with taskId and state")
        state = document["state"]
        return TaskReport(task_id(document.get("taskId")), state, _outcome(state, document))


def _code(document: Mapping[str, Any], name: str = "code") -> int | None:
    code = document.get(name)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _outcome(state: str, task: dict[str, Any]) -> Outcome | None:
    if state == SUCCESS:
        return succeeded(images([(link, None) for link in _links(task.get("resultJson"))]))
    if state == FAIL:
        code = _code(task, "failCode")  # its type is not documented
        named = str(code) if code else task.get("failCode")
        return Outcome.failed(failure({"code": named, "message": task.get("failMsg")}, {}))
    return None


def _links(result: Any) -> list[Any]:
    """Return the links in `resultJson`, which is JSON in a string.

    Raises:
        Unreadable: the string is not JSON. The next poll may bring a complete one.
    """
    try:
        parsed = parse(result) if isinstance(result, str) and result else result
    except NotJson as error:
        raise Unreadable(f"resultJson is not JSON: {error}") from None
    links = parsed.get("resultUrls") if isinstance(parsed, dict) else None
    return links if isinstance(links, list) else []
