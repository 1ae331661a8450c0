"""Reads the requests of Gemini's `generateContent`.

Source: `GenerateContentParameters` and `ImageConfig` in Google's Python library google-genai 3.6
(`types.py`). Names may be written in camel case or in snake case, as at Google.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import request
from marshmallow import EXCLUDE, INCLUDE, fields, validate

from orchestrator.api import incoming
from orchestrator.api.compatible.image_call import MAX_IMAGES, ImageCall, SentImage, decode_base64
from orchestrator.jobs.schema_fields import always, text
from orchestrator.jobs.validation import MAX_DEPTH, InvalidRequest, StrictSchema, Violation, checked
from orchestrator.runtime import Runtime

#: What the model may answer with. It must contain images.
IMAGE = "IMAGE"
_SNAKE = re.compile(r"_([a-z])")


class _Blob(StrictSchema):
    data = text(required=True)
    mime_type = fields.Raw(data_key="mimeType")
    display_name = fields.Raw(data_key="displayName")


class _FileData(StrictSchema):
    file_uri = text(required=True, maximum=2000, data_key="fileUri")
    mime_type = fields.Raw(data_key="mimeType")
    display_name = fields.Raw(data_key="displayName")


class _Part(StrictSchema):
    text = text(minimum=0, maximum=100_000)
    inline_data = fields.Nested(_Blob, data_key="inlineData")
    file_data = fields.Nested(_FileData, data_key="fileData")
    thought = fields.Raw()
    thought_signature = fields.Raw(data_key="thoughtSignature")


class _Content(StrictSchema):
    role = text(one_of=("user", "model"))
    parts = fields.List(
        fields.Nested(_Part), required=True, error_messages=always("a list of parts")
    )


class _ImageConfig(StrictSchema):
    class Meta:
        unknown = INCLUDE

    aspect_ratio = text(maximum=20, data_key="aspectRatio")
    image_size = text(maximum=20, data_key="imageSize")


class _GenerationConfig(StrictSchema):
    class Meta:
        unknown = INCLUDE

    candidate_count = fields.Integer(
        data_key="candidateCount",
        strict=True,
        validate=validate.Range(1, 100, error="a whole number from 1 to 100"),
        error_messages=always("a whole number from 1 to 100"),
    )
    image_config = fields.Nested(_ImageConfig, data_key="imageConfig")
    response_modalities = fields.List(
        text(), data_key="responseModalities", error_messages=always("a list of texts")
    )


class _Instruction(StrictSchema):
    class Meta:
        unknown = EXCLUDE

    parts = fields.List(fields.Nested(_Part), load_default=list)


class GenerateContentSchema(StrictSchema):
    """A request for content."""

    contents = fields.List(
        fields.Nested(_Content), required=True, error_messages=always("a list of contents")
    )
    generation_config = fields.Nested(_GenerationConfig, data_key="generationConfig")
    system_instruction = fields.Nested(_Instruction, data_key="systemInstruction")
    safety_settings = fields.Raw(data_key="safetySettings")
    tools = fields.Raw()
    tool_config = fields.Raw(data_key="toolConfig")
    labels = fields.Raw()
    model = fields.Raw()


_SCHEMA = GenerateContentSchema()
#: Fields of a request that no provider gets.
_UNUSED = ("safety_settings", "tools", "tool_config", "labels")


@dataclass(frozen=True, slots=True)
class GeminiRequest:
    """A request for images, and the fields that are ignored."""

    call: ImageCall
    candidates: int
    ignored: tuple[str, ...]


def read_request(runtime: Runtime, model: str) -> GeminiRequest:
    """Return the request. `model` is the name in the URL.

    Raises:
        InvalidRequest: with every violation.
        HTTPException: the body cannot be read.
    """
    room, files = request.max_content_length or 0, runtime.settings.max_upload_bytes
    data = _camel(incoming.large_body(room + incoming.base64_size(files)))
    if isinstance(data.get("contents"), Mapping):
        data["contents"] = [data["contents"]]
    body: dict[str, Any] = checked(_SCHEMA, data)
    config = body.get("generation_config", {})
    images = list(_images(body["contents"]))
    if len(images) > MAX_IMAGES:
        raise InvalidRequest(
            Violation("contents", f"{len(images)} images", f"at most {MAX_IMAGES} images")
        )
    options = {"prompt": _prompt(body), **_options(config)}
    return GeminiRequest(
        ImageCall(model, options, tuple(images)),
        candidates=config.get("candidate_count", 1),
        ignored=tuple(sorted(_ignored(body, config))),
    )


def _camel(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return JSON whose names are in camel case. A field that is null is left out, as at Google.

    Raises:
        InvalidRequest: it is nested too deeply.
    """
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        allowed = f"JSON of at most {MAX_DEPTH} levels"
        raise InvalidRequest(Violation("body", "deeper JSON", allowed))
    if isinstance(value, list):
        return [_camel(each, depth - 1) for each in value]
    return {
        _SNAKE.sub(_upper, name): _camel(each, depth - 1)
        for name, each in value.items()
        if each is not None
    }


def _upper(match: re.Match[str]) -> str:
    return match[1].upper()


def _prompt(body: Mapping[str, Any]) -> str:
    """Return all texts of the caller, in their order.

    Raises:
        InvalidRequest: there is none.
    """
    asked = [content for content in body["contents"] if content.get("role", "user") == "user"]
    parts = [*body.get("system_instruction", {}).get("parts", []), *_parts(asked)]
    texts = [text for part in parts if (text := part.get("text"))]
    if not texts:
        raise InvalidRequest(Violation("contents", "no text", "contents with a text"))
    return "\n".join(texts)


def _parts(contents: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for content in contents:
        yield from content["parts"]


def _images(contents: Sequence[Mapping[str, Any]]) -> Iterator[str | SentImage]:
    """Yield the images of all turns: an earlier answer of the model is a reference, too."""
    for number, content in enumerate(contents):
        for index, part in enumerate(content["parts"]):
            field = f"contents.{number}.parts.{index}"
            if "inline_data" in part:
                name = f"{field}.inlineData.data"
                yield SentImage(name, decode_base64(name, part["inline_data"]["data"]))
            elif "file_data" in part:
                yield part["file_data"]["file_uri"]


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    modalities = config.get("response_modalities")
    if modalities and IMAGE not in [each.upper() for each in modalities]:
        allowed = f"left out, or a list with {IMAGE}: this service makes images"
        name = "generationConfig.responseModalities"
        raise InvalidRequest(Violation(name, modalities, allowed))
    image = config.get("image_config", {})
    named = {
        "aspect_ratio": image.get("aspect_ratio"),
        "resolution": image.get("image_size"),
        "n": config.get("candidate_count"),
    }
    return {name: value for name, value in named.items() if value is not None}


def _ignored(body: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    for name in _UNUSED:
        if body.get(name):
            yield name
    yield from (name for name in config if name not in _GenerationConfig._declared_fields)
    image = config.get("image_config", {})
    yield from (name for name in image if name not in _ImageConfig._declared_fields)
