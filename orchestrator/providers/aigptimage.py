"""AI GPT Image: jobs without callbacks, whose results are JSON within JSON.

Source: AI GPT Image's page "Nano Banana 2 Text to Image API" (`createTask`, `recordInfo`). What it
leaves open comes from its published documentation, is marked "(public)", and is tolerated, not
relied upon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from marshmallow import fields

from orchestrator.jobs.model import JobError, Outcome
from orchestrator.jobs.validation import StrictSchema, always, text
from orchestrator.jsonio import NotJson, parse
from orchestrator.net.http_types import Call, Reply
from orchestrator.providers.base import Capabilities, Provider
from orchestrator.providers.catalog import Family, Model
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    Rejected,
    TaskReport,
    Unreadable,
    by_status,
    failure,
    images,
    succeeded,
    task_id,
    words,
)

#: Terminal states; every other one (waiting (public), queuing, generating, or one that is new) is
#: on its way.
SUCCESS, FAIL = "success", "fail"
#: The envelope's code when all is well.
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
    """AI GPT Image's wire form."""

    name = "aigptimage"
    title = "AI GPT Image"
    base_url = "https://aigptimage.com"
    capabilities = Capabilities(idempotency_seconds=86_400)  # (public); for how long is ours
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
        """`X-Request-ID` is the idempotency key (public); callbacks are not documented."""
        return Call("POST", "/api/v1/jobs/createTask", {"X-Request-ID": key}, body)

    def query_call(self, task_id: str) -> Call:
        """One task by its id, which is a parameter here."""
        return Call("GET", f"/api/v1/jobs/recordInfo?taskId={quote(task_id, safe='')}")

    def read_submit(self, reply: Reply) -> Accepted | Rejected | Ambiguous:
        """HTTP status and envelope may contradict each other: then nobody knows."""
        document = reply.object() or {}
        if reply.status // 100 != 2 and _code(document) == OK:
            reason = f"HTTP {reply.status} around an envelope that says {OK}"
            return Ambiguous(reason, reply.retry_after())
        return super().read_submit(reply)

    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """`{code: 200, msg, data: {taskId}}`."""
        if _code(document) not in (OK, None):
            raise Unreadable("the envelope is not one of success")
        data = document.get("data")
        return Accepted(task_id(data.get("taskId") if isinstance(data, dict) else None))

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """`{code, msg}`: the code is the status, whatever HTTP says around it.

        The page lists no error below 400, so without a code from there HTTP's status counts; a 5xx
        without one may be a gateway's.
        """
        code, message = _code(document), document.get("msg")
        if code is not None and code >= 400:
            told = code
        elif code != OK and 400 <= status < 500 and isinstance(message, str):
            told = status
        else:
            return None
        ours, retryable = by_status(told)
        return JobError(ours, words(message, f"code {told}"), str(told), retryable)

    def unwrap(self, document: dict[str, Any]) -> Any:
        """The task is under `data`, if the envelope says so."""
        return document.get("data") if _code(document) in (OK, None) else None

    def read_task(self, document: Any, now: int) -> TaskReport:
        """`{taskId, state, resultJson, failCode, failMsg}`."""
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
        told = {"code": str(code) if code else task.get("failCode"), "message": task.get("failMsg")}
        return Outcome.failed(failure(told, {}))
    return None


def _links(result: Any) -> list[Any]:
    """The links in `resultJson`, which is JSON in a string.

    Raises:
        Unreadable: it is not; the next poll may bring a whole one.
    """
    try:
        parsed = parse(result) if isinstance(result, str) and result else result
    except NotJson as error:
        raise Unreadable(f"resultJson is not JSON: {error}") from None
    found = parsed.get("resultUrls") if isinstance(parsed, dict) else None
    return found if isinstance(found, list) else []
