"""kie.ai: one asynchronous endpoint for every model of its market, with callbacks.

Source: kie.ai's public documents. docs/providers/kie.md lists them with their addresses, and says
which fact comes from which, and which decision is ours.

A callback's signature covers the task id and the time, and not the body. So a callback is a hint:
it makes a query due at once, and the answer to the query settles the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from orchestrator.providers.api import (
    AnyInput,
    BadSignature,
    Call,
    Capabilities,
    Cost,
    CreateTaskProvider,
    Family,
    Model,
    NotJson,
    Secret,
    StrictSchema,
    callback_refusal,
    links,
    nested,
    parse_lenient,
    switch,
    text,
    verify_id_and_time,
)

#: Allowed difference of a signature's timestamp. Seconds.
SIGNATURE_TOLERANCE_SECONDS = 300

_RATIOS = (
    "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16", "16:9",
    "21:9", "auto",
)  # fmt: skip
_PRO_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")


class _ProInput(StrictSchema):
    prompt, image_input = text(required=True), links(maximum=8)
    aspect_ratio = text(one_of=_PRO_RATIOS)
    resolution = text(one_of=("1K", "2K", "4K"))
    output_format = text(one_of=("png", "jpg"))


class _Banana2Input(_ProInput):
    prompt, image_input = text(required=True, maximum=20_000), links(maximum=14)
    aspect_ratio, google_search = text(one_of=_RATIOS), switch()


class _LiteInput(StrictSchema):
    prompt, image_urls = text(required=True), links(maximum=10)
    aspect_ratio = text(one_of=_RATIOS)


def _model(schema: type[StrictSchema], images: str, *others: str) -> Model:
    """Return a model with this input: the name of its images, and its options besides the usual."""

    class _Task(StrictSchema):
        model = text(required=True)
        input = nested(schema)

    names = {"prompt": "prompt", "images": images, "aspect_ratio": "aspect_ratio"}
    return Model(
        _Task(),
        {option: ("input", name) for option, name in (names | {o: o for o in others}).items()},
        spellings={"output_format": {"jpeg": "jpg"}},
        priced_by={("input", "resolution"): "1K"} if "resolution" in others else {},
    )


class Kie(CreateTaskProvider):
    """kie.ai's API of its market."""

    name = "kie"
    title = "kie.ai"
    base_url = "https://api.kie.ai"
    capabilities = Capabilities(
        callbacks=True, signed_callbacks=True, callback_is_hint=True, links_live_seconds=86_400
    )
    models: ClassVar[Mapping[str, Model]] = {
        "nano-banana-2": _model(_Banana2Input, "image_input", "resolution", "output_format"),
        "nano-banana-pro": _model(_ProInput, "image_input", "resolution", "output_format"),
        "nano-banana-2-lite": _model(_LiteInput, "image_urls"),
    }
    families: ClassVar[Mapping[str, Family]] = {
        name: Family(name) for name in ("nano-banana-2", "nano-banana-pro")
    }
    unlisted = Model(AnyInput(), {})
    callback_fields = frozenset({"callBackUrl"})

    def callback_refusal(self, url: str) -> str | None:
        """Accept an HTTPS URL."""
        return callback_refusal(url)

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Send no idempotency key, because none is documented."""
        callback = {"callBackUrl": callback_url} if callback_url else {}
        return replace(super().submit_call(body, None, key), body={**body, **callback})

    def read_cost(self, task: Mapping[str, Any]) -> Cost | None:
        """Read `creditsConsumed`."""
        amount = task.get("creditsConsumed")
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            return None
        return Cost(float(amount), "credits") if 0 <= amount < 1e9 else None

    def verify_callback(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret], now: int
    ) -> None:
        """Check X-Webhook-Signature: base64 HMAC-SHA256 over `task id.timestamp`."""
        verify_id_and_time(
            secrets,
            task_id=_named_task(body),
            timestamp=headers.get("x-webhook-timestamp"),
            signature=headers.get("x-webhook-signature"),
            now=now // 1000,
            tolerance=SIGNATURE_TOLERANCE_SECONDS,
        )


def _named_task(body: bytes) -> str:
    """Return the task id that the body of a callback names, in either of its documented spellings.

    Raises:
        BadSignature: it names none.
    """
    try:
        document = parse_lenient(body)
    except NotJson:
        document = None
    data = document.get("data", document) if isinstance(document, dict) else None
    named = (data.get("taskId") or data.get("task_id")) if isinstance(data, dict) else None
    if not isinstance(named, str):
        raise BadSignature("the body names no task")
    return named
