"""UniAll, from its pages "Async Image Generation" and "Nano Series Image Generation"."""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flask import Blueprint, Response, jsonify, request
from marshmallow import Schema, ValidationError, fields, validate
from werkzeug.datastructures import FileStorage

from .pictures import PictureSpec, picture
from .provider import CALLBACK_FAULTS, EmulatedProvider, Refusal, TaskRequest
from .tasks import Task, TaskCharge, TaskOutcome, TaskStatus
from .thin_success import Channel
from .validation import check_image_url, load, one_of, read_json

GPT_IMAGE = "gpt-image-2"
ASPECT_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
TASK_TYPES = ("text2image", "image2image")
#: Sizes of gpt-image-2 by the tier of its page. The tier does not always follow from the pixels.
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

#: Price list of the sandbox itself, in USD for each image. The documents name no amounts.
NANO_PRICES = {
    "NanoBanana": 0.03,
    **{"NanoBanana2-0.5K": 0.03, "NanoBanana2-1K": 0.05},
    **{"NanoBanana2-2K": 0.08, "NanoBanana2-4K": 0.12},
    **{"NanoBananaPro-1K": 0.1, "NanoBananaPro-2K": 0.12},
    **{"NanoBananaPro-4K": 0.2, "NanoBananaPro-8K": 0.4},
}
#: The same for gpt-image-2, by the tier of the size and by quality.
GPT_PRICES: Mapping[str, Mapping[str, float]] = {
    "1K": {"low": 0.01, "medium": 0.04, "high": 0.16},
    "2K": {"low": 0.02, "medium": 0.08, "high": 0.32},
    "4K": {"low": 0.04, "medium": 0.16, "high": 0.64},
}

#: Most images of one task. The limit of gpt-image-2 is documented. The other one is set by
#: the sandbox, because the document names only "upstream" limits.
MAX_IMAGES_PER_TASK = {GPT_IMAGE: 8, "NanoBanana": 10}
#: Largest reference file. The sandbox sets this limit itself. Bytes.
MAX_FILE_BYTES = 10 * 1024 * 1024

_CODES: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request", "The request is not valid."),
    401: ("unauthorized", "The API key is missing or wrong."),
    402: ("insufficient_balance", "The balance does not cover this task."),
    403: ("forbidden", "The API key may not do this."),
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("request_too_large", "The request is too large."),
    429: ("rate_limited", "There are too many requests."),
    500: ("internal_error", "Something went wrong."),
    502: ("bad_gateway", "The upstream service failed."),
    503: ("service_unavailable", "The service is not available for now."),
}
_FINAL_STATUSES = {
    TaskStatus.SUCCEEDED: "succeeded",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "failed",
}
_IMAGE_FILE = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF.{4}WEBP", re.DOTALL)


def _unsupported_field(instead: str) -> fields.Raw:
    def refuse(_: object) -> None:
        raise ValidationError(f"Not supported by this model: {instead}.")

    return fields.Raw(validate=refuse)


def _n(maximum: int) -> fields.Integer:
    return fields.Integer(load_default=1, strict=True, validate=validate.Range(1, maximum))


class UniAllTaskSchema(Schema):
    """The fields of every model. Each family limits `output_format` and `n`."""

    model = fields.String(required=True)
    prompt = fields.String(required=True, validate=validate.Length(min=1))
    task_type = fields.String(validate=one_of(TASK_TYPES))
    image = fields.String(validate=check_image_url)
    images = fields.List(fields.String(validate=check_image_url), validate=validate.Length(min=1))
    output_format = fields.String(load_default="png", validate=one_of(("png", "jpeg", "webp")))
    response_format = fields.String(load_default="url", validate=one_of(("url",)))


class NanoBananaSchema(UniAllTaskSchema):
    """The body for `NanoBanana`."""

    aspect_ratio = fields.String(load_default="1:1", validate=one_of(ASPECT_RATIOS))
    #: Accepted without an effect: "not the primary control".
    size = fields.String()
    quality = _unsupported_field("the quality is part of the model's name")
    n = _n(MAX_IMAGES_PER_TASK["NanoBanana"])


class NanoTierSchema(NanoBananaSchema):
    """The body for `NanoBanana2-*` and `NanoBananaPro-*`."""

    output_format = fields.String(load_default="png", validate=one_of(("png", "jpeg")))


class GptImageSchema(UniAllTaskSchema):
    """The body for `gpt-image-2`."""

    size = fields.String(required=True, validate=one_of(tuple(TIERS)))
    aspect_ratio = _unsupported_field("use size")
    quality = fields.String(load_default="medium", validate=one_of(("low", "medium", "high")))
    n = _n(MAX_IMAGES_PER_TASK[GPT_IMAGE])


_NANO_TIER = NanoTierSchema()
_SCHEMAS: Mapping[str, Schema] = {
    **dict.fromkeys(NANO_PRICES, _NANO_TIER),
    "NanoBanana": NanoBananaSchema(),
    GPT_IMAGE: GptImageSchema(),
}


class EmulatedUniAll(EmulatedProvider):
    """Emulated UniAll: bearer key, JSON or multipart, no callbacks, no idempotency keys."""

    name = "uniall"
    title = "UniAll"
    submit_path = "/v1/images/tasks"
    query_path = "/v1/images/tasks/"
    example: ClassVar[Mapping[str, Any]] = {
        "model": "NanoBanana2-1K",
        "prompt": "A red cube",
    }
    link_ttl_seconds = 24 * 3600.0
    failure = TaskOutcome(
        TaskStatus.FAILED,
        "content_policy_violation",
        "The content policy does not allow this prompt.",
    )
    result_fields = (("result_url",), ("metadata", "result_urls"))
    unsupported_faults: ClassVar[frozenset[str]] = CALLBACK_FAULTS | {"cancelled", "expire_at"}

    def route(self, routes: Blueprint) -> None:
        """Add the routes to submit and query."""
        routes.add_url_rule(self.submit_path, "create", self._create, methods=["POST"])
        routes.add_url_rule(f"{self.query_path}<task_id>", "show", self._show, methods=["GET"])

    def refuse(self, refusal: Refusal) -> Response:
        """Return `{code, message, data}` with a word as the code."""
        code, words = _CODES.get(refusal.status, _CODES[500])
        message = refusal.message or words
        answer = jsonify({"code": refusal.code or code, "message": message, "data": None})
        answer.status_code = refusal.status
        return answer

    def accepted(self, task: Task) -> Response:
        """Return the task without an envelope, with its present status."""
        return jsonify(self.present(task, task.outcome, Channel.SUBMISSION))

    def snapshot(
        self, task: Task, outcome: TaskOutcome | None, links: Sequence[str]
    ) -> dict[str, Any]:
        """Return the task object of both answers."""
        status, progress = (
            (_FINAL_STATUSES[outcome.status], "100%") if outcome else self._phase(task)
        )
        metadata: dict[str, Any] = {
            "task_type": task.notes["task_type"],
            "result_count": len(links),
        }
        if len(task.pictures) > 1:
            metadata["result_urls"] = list(links)
        error = None
        if outcome and outcome.status is not TaskStatus.SUCCEEDED:
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
        """Return `task_` and 32 hexadecimal digits."""
        return f"task_{secrets.token_hex(16)}"

    def _phase(self, task: Task) -> tuple[str, str]:
        started = task.progress(self.clock()) >= 0.2
        return ("processing", "50%") if started else ("queued", "0%")

    def _create(self) -> Response:
        if request.mimetype == "multipart/form-data":
            task_request = _read_task_request(_read_form(), uploaded=_has_image_file())
        else:
            task_request = _read_task_request(read_json(), uploaded=False)
        return self.submit(self, task_request, None)[1]

    def _show(self, task_id: str) -> Response:
        task = self.find(task_id)
        if task is None:
            raise Refusal(404, "There is no such task.", code="task_not_found")
        data = self.present(task, task.outcome, Channel.QUERY)
        return jsonify({"code": "success", "message": "", "data": data})


def _read_task_request(body: dict[str, Any], *, uploaded: bool) -> TaskRequest:
    model = body.get("model")
    if isinstance(model, str) and model not in _SCHEMAS:
        message = f"model {model!r} is not enabled; enabled: {', '.join(_SCHEMAS)}"
        raise Refusal(400, message, field="model", code="model_not_enabled")
    # Every schema refuses a model that is not a string.
    values = load(_SCHEMAS[model] if isinstance(model, str) else _NANO_TIER, body)
    image, price = _image_and_price(values)
    count = values["n"]
    return TaskRequest(
        model=values["model"],
        prompt=values["prompt"],
        pictures=(image,) * count,
        charge=TaskCharge(round(price * count, 6), "USD"),
        notes={"task_type": _task_type(values, uploaded=uploaded)},
    )


def _image_and_price(values: Mapping[str, Any]) -> tuple[PictureSpec, float]:
    model, extension = values["model"], values["output_format"]
    if model == GPT_IMAGE:
        size = values["size"]
        image = picture(size.replace("x", ":"), TIERS[size], extension)
        return image, GPT_PRICES[TIERS[size]][values["quality"]]
    tier = model.partition("-")[2] or "1K"
    return picture(values["aspect_ratio"], tier, extension), NANO_PRICES[model]


def _task_type(values: Mapping[str, Any], *, uploaded: bool) -> str:
    single, several = uploaded or "image" in values, "images" in values
    if single and several:
        raise Refusal(400, "images: Give image or images, not both.", field="images")
    inferred = TASK_TYPES[single or several]
    task_type = str(values.get("task_type", inferred))
    if task_type == "image2image" and inferred != task_type:
        message = "task_type: image2image takes an image: give image or images."
        raise Refusal(400, message, field="task_type")
    return task_type


def _read_form() -> dict[str, Any]:
    """Return the text fields of a form in the form of JSON."""
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
    """Return True for a form with a reference image. Refuse files that are not allowed."""
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
    data = file.stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise Refusal(413, f"image: Must not exceed {MAX_FILE_BYTES} bytes.", field="image")
    if not _IMAGE_FILE.match(data):
        raise Refusal(400, "image: Must be a PNG, JPEG or WebP file.", field="image")
