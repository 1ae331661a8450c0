"""UniAll: asynchronous image tasks without callbacks, for NanoBanana models and gpt-image-2.

Source: UniAll's pages "Async Image Generation" and "Nano Series Image Generation"
(`POST /v1/images/tasks`). They document no error envelope, so any code and message is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from marshmallow import fields, validate

from orchestrator.providers.api import (
    Accepted,
    Call,
    Capabilities,
    Family,
    InvalidRequest,
    JobError,
    JobRequest,
    Model,
    OneOfNames,
    Provider,
    States,
    Status,
    StrictSchema,
    TaskReport,
    Unreadable,
    Violation,
    always,
    as_written,
    document_error,
    link,
    links,
    task_id,
    task_object,
    text,
    to_body,
)

ASPECT_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
TASK_TYPES = ("text2image", "image2image")

#: Sizes of gpt-image-2 (section 5.5) in the document's order -> ratio (some approximate), tier.
SIZES: Mapping[str, tuple[str, str]] = {
    "1024x768": ("4:3", "1K"), "768x1024": ("3:4", "1K"), "1344x1024": ("4:3", "1K"),
    "1024x1344": ("3:4", "1K"), "1280x1024": ("5:4", "1K"), "1024x1280": ("4:5", "1K"),
    "1360x768": ("16:9", "1K"), "768x1360": ("9:16", "1K"), "1536x864": ("16:9", "1K"),
    "864x1536": ("9:16", "1K"), "1024x1024": ("1:1", "1K"), "1536x1024": ("3:2", "1K"),
    "1024x1536": ("2:3", "1K"), "2048x1024": ("2:1", "1K"), "1024x2048": ("1:2", "1K"),
    "2016x864": ("21:9", "1K"), "864x2016": ("9:21", "1K"), "1920x1080": ("16:9", "2K"),
    "1080x1920": ("9:16", "2K"), "1536x1536": ("1:1", "2K"), "2048x1360": ("3:2", "2K"),
    "1360x2048": ("2:3", "2K"), "2048x1536": ("4:3", "2K"), "1536x2048": ("3:4", "2K"),
    "2160x1440": ("3:2", "2K"), "1440x2160": ("2:3", "2K"), "2048x1152": ("16:9", "2K"),
    "1152x2048": ("9:16", "2K"), "2688x1344": ("2:1", "2K"), "1344x2688": ("1:2", "2K"),
    "2688x1152": ("21:9", "2K"), "1152x2688": ("9:21", "2K"), "2560x1440": ("16:9", "2K"),
    "1440x2560": ("9:16", "2K"), "2048x2048": ("1:1", "4K"), "2560x2048": ("5:4", "2K"),
    "2048x2560": ("4:5", "2K"), "2880x2880": ("1:1", "4K"), "3264x2448": ("4:3", "4K"),
    "2448x3264": ("3:4", "4K"), "3504x2336": ("3:2", "4K"), "2336x3504": ("2:3", "4K"),
    "3840x1920": ("2:1", "4K"), "1920x3840": ("1:2", "4K"), "3840x1648": ("21:9", "4K"),
    "1648x3840": ("9:21", "4K"), "3840x2160": ("16:9", "4K"), "2160x3840": ("9:16", "4K"),
}  # fmt: skip
_ONE_WAY = "the only reference: image, images or an uploaded file, not two of them"
#: Ratio and tier of a gpt-image-2 request without them.
DEFAULT_RATIO, DEFAULT_TIER = "1:1", "1K"


def _count(maximum: int | None = None) -> fields.Integer:
    allowed = f"a whole number from 1 to {maximum}" if maximum else "a whole number from 1"
    check = validate.Range(1, maximum, error=allowed)
    return fields.Integer(strict=True, validate=check, error_messages=always(allowed))


class _Task(StrictSchema):
    """The fields of both families."""

    model = text(required=True)
    prompt = text(required=True)
    task_type = text(one_of=TASK_TYPES)
    image = link()
    images = links(minimum=1)
    response_format = text(one_of=("url",))  # the format with links


class _NanoBanana(_Task):
    aspect_ratio = text(one_of=ASPECT_RATIOS)
    output_format = text(one_of=("png", "jpeg"))
    size = text(maximum=20)  # tolerated; the document calls it "not the primary control"
    n = _count()  # the upstream model sets the maximum


class _NanoBananaBase(_NanoBanana):
    output_format = text(one_of=("png", "jpeg", "webp"))


class _GptImage2(_Task):
    size = text(required=True, one_of=tuple(SIZES))
    quality = text(one_of=("low", "medium", "high"))
    output_format = text(one_of=("png", "jpeg", "webp"))
    n = _count(8)


_OPTIONS = {
    "prompt": ("prompt",),
    "images": ("images",),
    "aspect_ratio": ("aspect_ratio",),
    "output_format": ("output_format",),
    "n": ("n",),
}
_JPG = {"output_format": {"jpg": "jpeg"}}
_TIERED = Model(_NanoBanana(), _OPTIONS, spellings=_JPG, bills_returned=True)
_BASE = Model(_NanoBananaBase(), _OPTIONS, spellings=_JPG, bills_returned=True)
_GPT_IMAGE_2 = Model(
    _GptImage2(),
    {**_OPTIONS, "aspect_ratio": ("size",), "resolution": ("size",)},
    spellings=_JPG,
    values={
        "aspect_ratio": tuple(dict.fromkeys(ratio for ratio, _ in SIZES.values())),
        "resolution": tuple(dict.fromkeys(tier for _, tier in SIZES.values())),
    },
    priced_by={("size",): "", ("quality",): "medium"},
)

_TIERS_2 = {tier: f"NanoBanana2-{tier}" for tier in ("0.5K", "1K", "2K", "4K")}
_TIERS_PRO = {tier: f"NanoBananaPro-{tier}" for tier in ("1K", "2K", "4K", "8K")}


class UniAll(Provider):
    """UniAll's API."""

    name = "uniall"
    title = "UniAll"
    base_url = None  # the documents write {BASE_URL}
    capabilities = Capabilities(upload_field="image")
    models: ClassVar[Mapping[str, Model]] = {
        "NanoBanana": _BASE,
        **dict.fromkeys(_TIERS_2.values(), _TIERED),
        **dict.fromkeys(_TIERS_PRO.values(), _TIERED),
        "gpt-image-2": _GPT_IMAGE_2,
    }
    families: ClassVar[Mapping[str, Family]] = {
        "nano-banana": Family("NanoBanana"),
        "nano-banana-2": Family(_TIERS_2["1K"], _TIERS_2),
        "nano-banana-pro": Family(_TIERS_PRO["1K"], _TIERS_PRO),
        "gpt-image-2": Family("gpt-image-2"),
    }
    states: ClassVar[States] = {
        "queued": None,
        "processing": None,
        "succeeded": Status.SUCCEEDED,
        "failed": Status.FAILED,
    }
    results = ("metadata.result_urls", "result_url")  # the first holds all of several images
    poll_seconds = 2.0
    max_poll_seconds = 5.0

    def check(self, request: JobRequest) -> None:
        """Also refuse two kinds of reference images, and image2image without a reference."""
        super().check(request)
        body = self.body(request)
        references = [field for field in ("image", "images") if field in body]
        model = self._model(body["model"], request)
        if request.upload and references:
            raise InvalidRequest(Violation("image_file", request.upload.name, _ONE_WAY))
        if len(references) > 1:
            violation = Violation("images", body["images"], _ONE_WAY)
            raise InvalidRequest(as_written(violation, model, request))
        if body.get("task_type") == "image2image" and not (references or request.upload):
            allowed = "text2image, or the request must contain a reference image"
            violation = Violation("task_type", "image2image", allowed)
            raise InvalidRequest(as_written(violation, model, request))

    def unified(self, name: str, options: Mapping[str, Any], request: JobRequest) -> dict[str, Any]:
        """Put one reference image into `image`, several into `images`. Request links."""
        left = dict(options)
        size = _size(left) if name == "gpt-image-2" else {}
        body = {**to_body(self.models[name], name, left), **size}
        match body.get("images"):
            case []:
                del body["images"]
            case [only]:
                del body["images"]
                body["image"] = only
        references = {"image", "images"} & (body.keys() | request.provider_options.keys())
        kind = "image2image" if references or request.upload else "text2image"
        return {**body, "task_type": kind, "response_format": "url"}

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Send neither a callback nor an idempotency key, because none is documented."""
        return Call("POST", "/v1/images/tasks", {}, body)

    def query_call(self, task_id: str) -> Call:
        """Query one task by its id."""
        return Call("GET", f"/v1/images/tasks/{quote(task_id, safe='')}")

    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """Read the task object, which may be finished already."""
        task = self.unwrap(document)
        try:
            report = self.read_task(task, 0)
        except Unreadable:  # it names a task, at least
            return Accepted(task_id(task.get("task_id")))
        return Accepted(report.task_id, outcome=report.outcome, thin_success=report.thin_success)

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Read `{code, message}` or `{error: {code, message}}`. `success` is no error."""
        return document_error(status, document, {})

    def unwrap(self, document: dict[str, Any]) -> Any:
        """Return `data`, which holds the task of a query. A submission answers the task itself."""
        data = document.get("data")
        return data if isinstance(data, dict) else document

    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read `{task_id, status, progress, result_url, metadata{result_urls[]}, error}`."""
        task = task_object(document)
        return self.report(
            task, task.get("task_id"), task.get("status"), now, error=task.get("error")
        )


def _size(options: dict[str, Any]) -> dict[str, str]:
    """Remove ratio and tier from `options`, and return the document's first size with both."""
    ratio = options.pop("aspect_ratio", DEFAULT_RATIO)
    tier = options.pop("resolution", DEFAULT_TIER)
    tiers: dict[str, str] = {}
    for size, (of_ratio, of_tier) in SIZES.items():
        if of_ratio == ratio:
            tiers.setdefault(of_tier, size)
    if not tiers:
        ratios = OneOfNames(_GPT_IMAGE_2.values["aspect_ratio"])
        raise InvalidRequest(Violation("aspect_ratio", ratio, ratios))
    if tier not in [*tiers]:
        allowed = f"one of {', '.join(sorted(tiers))} with aspect_ratio {ratio}"
        raise InvalidRequest(Violation("resolution", tier, allowed))
    return {"size": tiers[tier]}
