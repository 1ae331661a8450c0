"""UniAll, as its pages "Async Image Generation" and "Nano Series Image Generation" document it."""

import re
import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

from flask import Blueprint, Response, jsonify, request
from marshmallow import Schema, ValidationError, fields, validate
from werkzeug.datastructures import FileStorage

from .pictures import Picture, picture
from .provider import CALLBACK_FAULTS, Order, Provider, Refusal
from .tasks import Charge, Outcome, Status, Task
from .validation import WEB_URL, load, one_of, read_json

GPT_IMAGE = "gpt-image-2"
ASPECT_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
TASK_TYPES = ("text2image", "image2image")
#: the sizes of gpt-image-2 by the tier its page counts them to: not always that of their pixels
SIZES_BY_TIER: Mapping[str, tuple[str, ...]] = {
    "1K": (
        *("1024x768", "768x1024", "1344x1024", "1024x1344", "1280x1024", "1024x1280"),
        *("1360x768", "768x1360", "1536x864", "864x1536", "1024x1024", "1536x1024"),
        *("1024x1536", "2048x1024", "1024x2048", "2016x864", "864x2016"),
    ),
    "2K": (
        *("1920x1080", "1080x1920", "1536x1536", "2048x1360", "1360x2048", "2048x1536"),
        *("1536x2048", "2160x1440", "1440x2160", "2048x1152", "1152x2048", "2688x1344"),
        *("1344x2688", "2688x1152", "1152x2688", "2560x1440", "1440x2560", "2560x2048"),
        "2048x2560",
    ),
    "4K": (
        *("2048x2048", "2880x2880", "3264x2448", "2448x3264", "3504x2336", "2336x3504"),
        *("3840x1920", "1920x3840", "3840x1648", "1648x3840", "3840x2160", "2160x3840"),
    ),
}
TIERS = {size: tier for tier, sizes in SIZES_BY_TIER.items() for size in sizes}

#: the sandbox's own price list, in USD per picture; the documents name no amounts
NANO_PRICES = {
    "NanoBanana": 0.03,
    **{"NanoBanana2-0.5K": 0.03, "NanoBanana2-1K": 0.05},
    **{"NanoBanana2-2K": 0.08, "NanoBanana2-4K": 0.12},
    **{"NanoBananaPro-1K": 0.1, "NanoBananaPro-2K": 0.12},
    **{"NanoBananaPro-4K": 0.2, "NanoBananaPro-8K": 0.4},
}
#: the same for gpt-image-2, by the tier of the size and by quality
GPT_PRICES: Mapping[str, Mapping[str, float]] = {
    "1K": {"low": 0.01, "medium": 0.04, "high": 0.16},
    "2K": {"low": 0.02, "medium": 0.08, "high": 0.32},
    "4K": {"low": 0.04, "medium": 0.16, "high": 0.64},
}

#: pictures per task: gpt-image-2's is documented, the other is the sandbox's own "upstream" limit
MAX_N = {GPT_IMAGE: 8, "NanoBanana": 10}
#: bytes of a reference file: the sandbox's own limit
MAX_FILE = 10 * 1024 * 1024

_CODES: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request", "The request is not valid."),
    401: ("unauthorized", "The API key is missing or wrong."),
    402: ("insufficient_balance", "The balance does not cover this task."),
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("request_too_large", "The request is too large."),
    429: ("rate_limited", "There are too many requests."),
    500: ("internal_error", "Something went wrong."),
    503: ("service_unavailable", "The service is not available for now."),
}
_ENDS = {
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "failed",
}
_IMAGE_FILE = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF.{4}WEBP", re.DOTALL)


def _not_for_this_model(instead: str) -> fields.Raw:
    def refuse(_: object) -> None:
        raise ValidationError(f"Not supported by this model: {instead}.")

    return fields.Raw(validate=refuse)


def _n(most: int) -> fields.Integer:
    return fields.Integer(load_default=1, strict=True, validate=validate.Range(1, most))


class TaskSchema(Schema):
    """What every model takes; `output_format` and `n` have limits of each family's own."""

    model = fields.String(required=True)
    prompt = fields.String(required=True, validate=validate.Length(min=1))
    task_type = fields.String(validate=one_of(TASK_TYPES))
    image = fields.String(validate=WEB_URL)
    images = fields.List(fields.String(validate=WEB_URL), validate=validate.Length(min=1))
    output_format = fields.String(load_default="png", validate=one_of(("png", "jpeg", "webp")))
    response_format = fields.String(load_default="url", validate=one_of(("url",)))


class NanoBananaSchema(TaskSchema):
    """`NanoBanana`."""

    aspect_ratio = fields.String(load_default="1:1", validate=one_of(ASPECT_RATIOS))
    #: taken without effect: "not the primary control"
    size = fields.String()
    quality = _not_for_this_model("the quality is part of the model's name")
    n = _n(MAX_N["NanoBanana"])


class NanoTierSchema(NanoBananaSchema):
    """`NanoBanana2-*` and `NanoBananaPro-*`."""

    output_format = fields.String(load_default="png", validate=one_of(("png", "jpeg")))


class GptImageSchema(TaskSchema):
    """`gpt-image-2`."""

    size = fields.String(required=True, validate=one_of(tuple(TIERS)))
    aspect_ratio = _not_for_this_model("use size")
    quality = fields.String(load_default="medium", validate=one_of(("low", "medium", "high")))
    n = _n(MAX_N[GPT_IMAGE])


_NANO_TIER = NanoTierSchema()
_SCHEMAS: Mapping[str, Schema] = {
    **dict.fromkeys(NANO_PRICES, _NANO_TIER),
    "NanoBanana": NanoBananaSchema(),
    GPT_IMAGE: GptImageSchema(),
}


class UniAll(Provider):
    """Bearer key, JSON or multipart, no callbacks, no idempotency: each POST is a new task."""

    name = "uniall"
    title = "UniAll"
    links_live_for = 24 * 3600.0
    failure = Outcome(
        Status.FAILED, "content_policy_violation", "The content policy does not allow this prompt."
    )
    unsupported_faults: ClassVar[frozenset[str]] = CALLBACK_FAULTS | {"cancelled"}

    def route(self, routes: Blueprint) -> None:
        """Submit and query."""
        routes.add_url_rule("/v1/images/tasks", "create", self._create, methods=["POST"])
        routes.add_url_rule("/v1/images/tasks/<task_id>", "show", self._show, methods=["GET"])

    def refuse(self, refusal: Refusal) -> Response:
        """`{code, message, data}`, the code a word."""
        code, words = _CODES.get(refusal.status, _CODES[500])
        message = refusal.message or words
        answer = jsonify({"code": refusal.code or code, "message": message, "data": None})
        answer.status_code = refusal.status
        if refusal.retry_after is not None:
            answer.headers["Retry-After"] = str(refusal.retry_after)
        return answer

    def accepted(self, task: Task) -> Response:
        """The bare task, as it stands when it is answered."""
        return jsonify(self.snapshot(task, task.outcome))

    def snapshot(self, task: Task, outcome: Outcome | None) -> dict[str, Any]:
        """The task object of both answers."""
        links = task.links() if outcome and outcome.status is Status.SUCCEEDED else []
        status, progress = (_ENDS[outcome.status], "100%") if outcome else self._phase(task)
        metadata: dict[str, Any] = {
            "task_type": task.notes["task_type"],
            "result_count": len(links),
        }
        if len(task.pictures) > 1:
            metadata["result_urls"] = links
        error = None
        if outcome and outcome.status is not Status.SUCCEEDED:
            error = {"code": outcome.code, "message": outcome.message}
        return {
            "task_id": task.id,
            "status": status,
            "progress": progress,
            "result_url": links[0] if links else None,
            "metadata": metadata,
            "error": error,
        }

    def new_id(self) -> str:
        """`task_` and 32 hexadecimal digits."""
        return f"task_{secrets.token_hex(16)}"

    def _phase(self, task: Task) -> tuple[str, str]:
        begun = task.progress(self.clock()) >= 0.2
        return ("processing", "50%") if begun else ("queued", "0%")

    def _create(self) -> Response:
        if request.mimetype == "multipart/form-data":
            order = _order(_read_form(), uploaded=_has_image_file())
        else:
            order = _order(read_json(), uploaded=False)
        return self.submit(self, order, None)[1]

    def _show(self, task_id: str) -> Response:
        task = self.find(task_id)
        if task is None:
            raise Refusal(404, "There is no such task.", code="task_not_found")
        data = self.snapshot(task, task.outcome)
        return jsonify({"code": "success", "message": "", "data": data})


def _order(body: dict[str, Any], *, uploaded: bool) -> Order:
    model = body.get("model")
    if isinstance(model, str) and model not in _SCHEMAS:
        message = f"model {model!r} is not enabled; enabled: {', '.join(_SCHEMAS)}"
        raise Refusal(400, message, field="model", code="model_not_enabled")
    # A model that is no string is refused by whichever schema.
    wanted = load(_SCHEMAS[model] if isinstance(model, str) else _NANO_TIER, body)
    image, price = _image_and_price(wanted)
    count = wanted["n"]
    return Order(
        model=wanted["model"],
        prompt=wanted["prompt"],
        pictures=(image,) * count,
        charge=Charge(round(price * count, 6), "USD"),
        notes={"task_type": _task_type(wanted, uploaded=uploaded)},
    )


def _image_and_price(wanted: Mapping[str, Any]) -> tuple[Picture, float]:
    model, extension = wanted["model"], wanted["output_format"]
    if model == GPT_IMAGE:
        size = wanted["size"]
        image = picture(size.replace("x", ":"), TIERS[size], extension)
        return image, GPT_PRICES[TIERS[size]][wanted["quality"]]
    tier = model.partition("-")[2] or "1K"
    return picture(wanted["aspect_ratio"], tier, extension), NANO_PRICES[model]


def _task_type(wanted: Mapping[str, Any], *, uploaded: bool) -> str:
    one, many = uploaded or "image" in wanted, "images" in wanted
    if one and many:
        raise Refusal(400, "images: Give image or images, not both.", field="images")
    inferred = TASK_TYPES[one or many]
    asked = str(wanted.get("task_type", inferred))
    if asked == "image2image" and inferred != asked:
        message = "task_type: image2image takes an image: give image or images."
        raise Refusal(400, message, field="task_type")
    return asked


def _read_form() -> dict[str, Any]:
    """The text fields of a form, as JSON would have them."""
    body: dict[str, Any] = {}
    for name, values in request.form.lists():
        if name == "image":
            raise Refusal(400, "image: Must be a file in multipart/form-data.", field=name)
        if len(values) > 1 and name != "images":
            raise Refusal(400, f"{name}: Given more than once.", field=name)
        body[name] = values if name == "images" else values[0]
    if re.fullmatch("[0-9]{1,9}", body.get("n", "")):
        body["n"] = int(body["n"])
    return body


def _has_image_file() -> bool:
    """Whether a form came with a reference image; files it must not hold are refused."""
    files = list(request.files.items(multi=True))
    for name, _ in files:
        if name != "image":
            raise Refusal(400, f"{name}: Unknown field.", field=name)
    if len(files) > 1:
        raise Refusal(400, "image: Must be one file.", field="image")
    for _, file in files:
        _check_image_file(file)
    return bool(files)


def _check_image_file(file: FileStorage) -> None:
    data = file.stream.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise Refusal(413, f"image: Must not exceed {MAX_FILE} bytes.", field="image")
    if not _IMAGE_FILE.match(data):
        raise Refusal(400, "image: Must be a PNG, JPEG or WebP file.", field="image")
