"""Replicate: predictions of any model, with callbacks that are signed by Standard Webhooks.

Source: Replicate's public documents. docs/providers/replicate.md lists them with their addresses,
and says which fact comes from which, and which decision is ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from orchestrator.providers.api import (
    Accepted,
    AnyInput,
    Call,
    Capabilities,
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
    callback_refusal,
    document_error,
    link,
    links,
    nested,
    number,
    standard_webhook_secret_refusal,
    switch,
    task_id,
    task_object,
    text,
    verify_standard_webhook,
    whole,
)

#: Codes in the error of a failed prediction -> our code, and whether the error may pass. The first
#: is ours: the field `data_removed` says that nobody can get the output any more.
ERROR_CODES: Mapping[str, tuple[ErrorCode, bool]] = {
    "data_removed": (ErrorCode.GENERATION_FAILED, False),
    "E1000": (ErrorCode.UNKNOWN, True),
    "E1001": (ErrorCode.GENERATION_FAILED, False),
    "E6716": (ErrorCode.TIMEOUT, True),
}
_CODE = re.compile(r"\bE\d{4}\b")
#: The two documented sentences of a 429, which state the wait.
_WAIT = re.compile(r"(?:resets in ~?|available in )(\d{1,4}) ?s")

_FLUX_RATIOS = ("1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21")
_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_BANANA_RATIOS = ("match_input_image", *_RATIOS)
_BANANA_2_RATIOS = (*_BANANA_RATIOS, "1:4", "1:8", "4:1", "8:1")


class _FluxInput(StrictSchema):
    prompt = text(required=True)
    aspect_ratio = text(one_of=_FLUX_RATIOS)
    num_outputs, num_inference_steps = whole(1, 4), whole(1, 4)
    output_format, output_quality = text(one_of=("webp", "jpg", "png")), whole(0, 100)
    megapixels, seed = text(one_of=("1", "0.25")), whole(0)
    go_fast, disable_safety_checker = switch(), switch()


class _FluxDevInput(_FluxInput):
    num_inference_steps = whole(1, 50)
    guidance, prompt_strength, image = number(0, 10), number(0, 1), link()


class _BananaInput(StrictSchema):
    prompt, image_input = text(required=True), links()
    aspect_ratio = text(one_of=_BANANA_RATIOS)
    output_format = text(one_of=("jpg", "png"))


class _BananaProInput(_BananaInput):
    image_input, resolution = links(maximum=14), text(one_of=("1K", "2K", "4K"))
    safety_filter_level = text(
        one_of=("block_low_and_above", "block_medium_and_above", "block_only_high")
    )


class _Banana2Input(_BananaInput):
    image_input, resolution = links(maximum=14), text(one_of=("1K", "2K", "4K"))
    aspect_ratio = text(one_of=_BANANA_2_RATIOS)
    google_search, image_search = switch(), switch()


def _model(schema: type[StrictSchema], default: str = "", **others: str) -> Model:
    """Return a model with this input. `others` are unified options with another name there."""

    class _Prediction(StrictSchema):
        model = text(required=True)
        input = nested(schema)

    same = ("prompt", "aspect_ratio", "resolution", "output_format")
    names = {name: name for name in same if name in schema().fields} | others
    return Model(
        _Prediction(),
        {option: ("input", name) for option, name in names.items()},
        spellings={"output_format": {"jpeg": "jpg"}},
        priced_by={("input", "resolution"): default} if default else {},
    )


class Replicate(Provider):
    """Replicate's API."""

    name = "replicate"
    title = "Replicate"
    base_url = "https://api.replicate.com"
    capabilities = Capabilities(callbacks=True, signed_callbacks=True, links_live_seconds=3600)
    models: ClassVar[Mapping[str, Model]] = {
        "black-forest-labs/flux-schnell": _model(_FluxInput, n="num_outputs"),
        "black-forest-labs/flux-dev": _model(_FluxDevInput, n="num_outputs"),
        "google/nano-banana": _model(_BananaInput, images="image_input"),
        "google/nano-banana-2": _model(_Banana2Input, "1K", images="image_input"),
        "google/nano-banana-pro": _model(_BananaProInput, "2K", images="image_input"),
    }
    families: ClassVar[Mapping[str, Family]] = {
        name: Family(f"google/{name}")
        for name in ("nano-banana", "nano-banana-2", "nano-banana-pro")
    }
    unlisted = Model(AnyInput(), {})
    callback_fields = frozenset({"webhook", "webhook_completed", "webhook_events_filter"})
    states: ClassVar[States] = {
        **dict.fromkeys(("starting", "processing")),
        "succeeded": Status.SUCCEEDED,
        "failed": Status.FAILED,
        "canceled": Status.CANCELLED,
        "aborted": Status.CANCELLED,
    }
    results = ("output",)

    def callback_refusal(self, url: str) -> str | None:
        """Accept an HTTPS URL."""
        return callback_refusal(url)

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Request only the callback of the end. The request must not wait for the output.

        `version` takes a model, a version of a model, or the id of a version.
        """
        sent = {"version": body["model"], **body}
        del sent["model"]
        if callback_url:
            sent |= {"webhook": callback_url, "webhook_events_filter": ["completed"]}
        return Call("POST", "/v1/predictions", {}, sent)

    def query_call(self, task_id: str) -> Call:
        """Query one prediction by its id."""
        return Call("GET", f"/v1/predictions/{quote(task_id, safe='')}")

    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """Read the `id` of the new prediction."""
        return Accepted(task_id(document.get("id")))

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Read the problem document `{title, detail, status}`, or a `detail` alone."""
        return document_error(status, document, ERROR_CODES)

    def hinted_retry_after(self, document: dict[str, Any]) -> float | None:
        """Read the wait in the words of a 429."""
        detail = document.get("detail")
        match = _WAIT.search(detail) if isinstance(detail, str) else None
        return float(match[1]) if match else None

    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read `{id, status, output, error, data_removed}`, also from callbacks."""
        task = task_object(document)
        error = _coded(task.get("error"))
        if error is None and task.get("data_removed") is True:
            error = {"code": "data_removed", "message": "Replicate has removed the output"}
        return self.report(
            task, task.get("id"), task.get("status"), now, error=error, codes=ERROR_CODES
        )

    def webhook_secret_refusal(self, secret: str) -> str | None:
        """Accept the form of Standard Webhooks."""
        return standard_webhook_secret_refusal(secret)

    def verify_callback(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret], now: int
    ) -> None:
        """Check `webhook-signature`, by Standard Webhooks."""
        verify_standard_webhook(secrets, headers=headers, body=body, now=now // 1000)


def _coded(error: Any) -> Any:
    """Return an error with the code that its sentence names, if it names one."""
    code = _CODE.search(error) if isinstance(error, str) else None
    return {"code": code[0], "message": error} if code else error
