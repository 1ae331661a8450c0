"""Reads the requests of OpenAI's Images API.

Source: the parameters of `images.generate` and `images.edit` in OpenAI's Python library 3.57
(`types/image_generate_params.py`, `types/image_edit_params.py`). Fields of our own requests are
accepted besides, for `extra_body`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flask import request
from marshmallow import fields

from orchestrator.api import incoming
from orchestrator.api.compatible.image_call import MAX_IMAGES, ImageCall, SentImage, decode_base64
from orchestrator.api.multipart import Part, read_form
from orchestrator.job_check import REQUEST_SCHEMA
from orchestrator.jobs.schema_fields import always, switch, text, whole
from orchestrator.jobs.validation import (
    InvalidRequest,
    KnownFields,
    StrictSchema,
    Violation,
    checked,
    json_bytes,
)
from orchestrator.runtime import Runtime

#: The most parts of a form.
MAX_PARTS = 100
FORM = "multipart/form-data"
#: The fields of a job's request that may stand beside OpenAI's fields.
OUR_FIELDS = (
    *("aspect_ratio", "resolution", "provider_options", "metadata", "fallback"),
    *("deadline_seconds", "on_unconfirmed"),
    *("notify_url", "notify_task", "notify_queue", "notify_stream"),
)
#: OpenAI's fields that a job's request has, too.
SHARED_FIELDS = ("prompt", "n", "output_format")
#: OpenAI's fields that a provider's own field of the same name may take. Without such a field they
#: are ignored, and a header of the answer names them.
EXTRAS = ("quality", "background", "moderation", "style", "output_compression", "input_fidelity")
#: Values that mean the provider's default.
DEFAULTS = frozenset({"auto", "standard"})
_DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+-]+)?;base64,", re.IGNORECASE)
_NESTED = re.compile(r"([A-Za-z_]+)((?:\[[^\[\]]*\])*)")


class ImageRequestSchema(StrictSchema):
    """A request for images."""

    model = text(required=True, maximum=200)
    prompt = text(required=True, maximum=100_000)
    n = whole(1, 100)
    size = text(maximum=20)
    output_format = text(maximum=20)
    response_format = text(one_of=("b64_json", "url"))
    stream = switch()
    partial_images = whole(0, 3)
    user = text(maximum=512)
    safety_identifier = text(maximum=512)
    quality = text(maximum=20)
    background = text(maximum=20)
    moderation = text(maximum=20)
    style = text(maximum=20)
    input_fidelity = text(maximum=20)
    output_compression = whole(0, 100)
    images = fields.List(fields.Raw(), error_messages=always("a list of images"))


#: The job's own schema checks our fields. Here they are only made safe to read.
_SCHEMA = ImageRequestSchema.from_dict(
    {
        **dict.fromkeys(OUR_FIELDS, fields.Raw(validate=json_bytes)),
        "provider_options": fields.Dict(
            error_messages=always("a JSON object with more fields of the provider's own body"),
            validate=json_bytes,
        ),
    }
)()


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How images are answered. The last three are repeated where nothing better is known."""

    as_links: bool
    streams: bool
    output_format: str | None
    size: str | None
    quality: str | None


@dataclass(frozen=True, slots=True)
class OpenAIRequest:
    """A request for images."""

    call: ImageCall
    answer: AnswerOptions


def read_request(runtime: Runtime, *, edits: bool) -> OpenAIRequest:
    """Return the request.

    Args:
        runtime: of this process.
        edits: the request must have a reference image.

    Raises:
        InvalidRequest: with every violation.
        HTTPException: the body cannot be read.
    """
    room, files = request.max_content_length or 0, runtime.settings.max_upload_bytes
    if request.mimetype == FORM:
        data, sent = _read_form(room + files)
    else:
        data, sent = incoming.large_body(room + incoming.base64_size(files)), []
    data = {name: value for name, value in data.items() if value is not None}
    body: dict[str, Any] = checked(_SCHEMA, data)
    images = [*sent, *_images(body.pop("images", []))]
    _check_images(images, edits=edits)
    return _request(body, images)


def _request(body: dict[str, Any], images: Sequence[str | SentImage]) -> OpenAIRequest:
    options = {name: body[name] for name in (*SHARED_FIELDS, *OUR_FIELDS) if name in body}
    user = body.get("safety_identifier") or body.get("user")
    if user and "metadata" not in options:
        options["metadata"] = {"user": user}
    extras = {n: body[n] for n in EXTRAS if n in body and body[n] not in DEFAULTS}
    size = body.get("size", "")
    if "aspect_ratio" in options or "resolution" in options:
        size = ""
    answer = AnswerOptions(
        as_links=body.get("response_format") == "url",
        streams=bool(body.get("stream")),
        output_format=body.get("output_format"),
        size=body.get("size"),
        quality=body.get("quality"),
    )
    return OpenAIRequest(ImageCall(body["model"], options, tuple(images), size, extras), answer)


def _check_images(images: Sequence[Any], *, edits: bool) -> None:
    if len(images) > MAX_IMAGES:
        allowed = f"at most {MAX_IMAGES} images"
        raise InvalidRequest(Violation("image", f"{len(images)} images", allowed))
    if edits and not images:
        raise InvalidRequest(Violation("image", "", "one or more images: files, or links"))


# Forms -------------------------------------------------------------------------------------------


def _read_form(max_bytes: int) -> tuple[dict[str, Any], list[SentImage]]:
    """Return the fields and the images of a form."""
    data: dict[str, Any] = {}
    images = []
    for part in read_form(max_bytes, MAX_PARTS):
        name = part.name.partition("[")[0]
        if part.is_file and name in ("image", "images"):
            images.append(SentImage(part.name, part.content))
        elif part.is_file and name not in _SCHEMA.fields:
            raise InvalidRequest(_unusable_file(part))
        else:
            _set_field(data, part)
    return data, images


def _unusable_file(part: Part) -> Violation:
    if part.name in ("mask", "markup"):
        allowed = "left out: no provider takes one; describe the change in the prompt"
        return Violation(part.name, f"{len(part.content)} bytes", allowed)
    return Violation(part.name, "", KnownFields(("image", "image[]")))


def _set_field(data: dict[str, Any], part: Part) -> None:
    """Put a text of a form into `data`: `n`, `metadata[order]` or `image[]`.

    Raises:
        InvalidRequest: the name has another form or was there, or the text is not UTF-8.
    """
    match = _NESTED.fullmatch(part.name)
    try:
        value: Any = part.content.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(Violation(part.name, "", "UTF-8 text")) from None
    if match is None:
        raise InvalidRequest(Violation(part.name, value, KnownFields(_SCHEMA.fields)))
    name, keys = match[1], re.findall(r"\[([^\[\]]*)\]", match[2])
    if name in ("image", "images"):
        data.setdefault("images", []).append(value)
        return
    here = data
    for inner in keys:
        here = here.setdefault(name, {})
        if not isinstance(here, dict):
            raise InvalidRequest(Violation(part.name, value, "one value, or several with keys"))
        name = inner
    if name in here:
        raise InvalidRequest(Violation(part.name, value, "given once"))
    here[name] = value if keys else _typed(name, value)


def _typed(name: str, value: str) -> Any:
    """Return the value of a field that is no text in JSON."""
    field = (REQUEST_SCHEMA if name in OUR_FIELDS else _SCHEMA).fields.get(name)
    if isinstance(field, fields.Boolean) and value in ("true", "false"):
        return value == "true"
    if isinstance(field, fields.Float | fields.Integer) and re.fullmatch(r"-?[0-9]{1,9}", value):
        return int(value)
    if isinstance(field, fields.Float) and re.fullmatch(r"-?[0-9]{1,9}\.[0-9]{1,9}", value):
        return float(value)
    return value


# Images in JSON ----------------------------------------------------------------------------------


def _images(items: Sequence[Any]) -> Iterator[str | SentImage]:
    """Yield links and bytes: an item is a link, a data URL, or an object with one."""
    for index, item in enumerate(items):
        field = f"images.{index}"
        value = item.get("image_url") if isinstance(item, dict) else item
        if isinstance(value, dict):
            value = value.get("url")
        if not isinstance(value, str):
            allowed = "an http(s) URL, or a data URL with base64, also as {image_url}"
            raise InvalidRequest(Violation(field, "an object", allowed))
        yield _decoded(field, value) if value[:5].lower() == "data:" else value


def _decoded(field: str, url: str) -> SentImage:
    head = _DATA_URL.match(url)
    if head is None:
        raise InvalidRequest(Violation(field, url[:40], "a data URL with base64"))
    return SentImage(field, decode_base64(field, url[head.end() :]))
