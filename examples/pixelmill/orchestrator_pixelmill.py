"""PixelMill, an imaginary API: `POST /jobs` returns a ticket, `GET /jobs/{ticket}` a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from marshmallow import fields

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

#: `fault.code` -> our code, and whether the error may pass.
FAULTS: Mapping[str, tuple[ErrorCode, bool]] = {
    "rude_brief": (ErrorCode.CONTENT_POLICY, False),
    "no_coins": (ErrorCode.INSUFFICIENT_CREDITS, False),
    "too_busy": (ErrorCode.RATE_LIMITED, True),
    "mill_broke": (ErrorCode.GENERATION_FAILED, True),
}


class _Brief(StrictSchema):
    words = text(required=True, maximum=4000)
    sketches = links(maximum=4)
    shape = text(one_of=("1:1", "3:2", "2:3"))


class _Job(StrictSchema):
    model = text(required=True)
    brief = fields.Nested(_Brief, required=True, error_messages=always("a JSON object"))
    file_type = text(one_of=("png", "jpeg"))


_MILL = Model(
    _Job(),
    {
        "prompt": ("brief", "words"),
        "images": ("brief", "sketches"),
        "aspect_ratio": ("brief", "shape"),
        "output_format": ("file_type",),
    },
    spellings={"output_format": {"jpg": "jpeg"}},
)


class PixelMill(Provider):
    """PixelMill's API."""

    name = "pixelmill"
    title = "PixelMill"
    base_url = "https://api.pixelmill.example"
    capabilities = Capabilities(callbacks=True, signed_callbacks=True, idempotency_seconds=900)
    models: ClassVar[Mapping[str, Model]] = {"mill-1": _MILL, "mill-1-turbo": _MILL}
    families: ClassVar[Mapping[str, Family]] = {"nano-banana-2": Family("mill-1")}
    callback_fields = frozenset({"notify"})
    states: ClassVar[States] = {
        "waiting": None,
        "milling": None,
        "done": Status.SUCCEEDED,
        "broken": Status.FAILED,
    }
    results = ("pictures",)

    def callback_refusal(self, url: str) -> str | None:
        """Accept an HTTPS URL on a public host."""
        return callback_refusal(url, public=True)

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Send our URL as `notify`, and the idempotency key as `PixelMill-Once`."""
        notify = {"notify": callback_url} if callback_url else {}
        return Call("POST", "/jobs", {"PixelMill-Once": key}, {**body, **notify})

    def query_call(self, task_id: str) -> Call:
        """Query one job by its ticket."""
        return Call("GET", f"/jobs/{quote(task_id, safe='')}")

    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """Read `{ticket}`."""
        return Accepted(task_id(document.get("ticket")))

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Read `{fault: {code, message}}`."""
        return document_error(status, document, FAULTS, "fault")

    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read `{ticket, phase, pictures[], fault{code, message}, coins}`, also from callbacks."""
        job = task_object(document)
        coins, fault = job.get("coins"), job.get("fault")
        cost = Cost(coins, "coins") if type(coins) is int and coins >= 0 else None
        ticket, phase = job.get("ticket"), job.get("phase")
        return self.report(job, ticket, phase, now, error=fault, codes=FAULTS, cost=cost)

    def verify_callback(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret], now: int
    ) -> None:
        """Check PixelMill-Seal: hex HMAC-SHA256 over `PixelMill-Time.body`, at most 5 min old."""
        time, seal = headers.get("pixelmill-time"), headers.get("pixelmill-seal")
        verify_timestamped_hex(
            secrets, timestamp=time, signature=seal, body=body, now=now // 1000, tolerance=300
        )
