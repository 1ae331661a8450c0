"""The JSON of requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import (
    ValidationError,
    fields,
    post_load,
    pre_load,
    validate,
    validates,
    validates_schema,
)

from orchestrator.jobs.request import UNIFIED_OPTIONS, JobRequest, Target
from orchestrator.jobs.schema_fields import ShortList, Text, always, links, number, text
from orchestrator.jobs.validation import REQUIRED, StrictSchema, json_bytes

#: The largest metadata of a job. Bytes of JSON.
MAX_METADATA_BYTES = 16 * 1024
#: The most fallbacks of a job.
MAX_FALLBACKS = 8
FALLBACKS = f"a list of at most {MAX_FALLBACKS} objects with provider and model"

#: The name of a notification stream.
STREAM = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
#: The same for the OpenAPI document, whose patterns are those of JavaScript.
STREAM_PATTERN = "^[A-Za-z0-9_.-]{1,64}$"
STREAM_NAME = "1 to 64 letters, digits, _ . -"


class FallbackSchema(StrictSchema):
    """A provider that is tried next, if the one before it has certainly not accepted the job."""

    provider = text(required=True)
    model = text(required=True, maximum=200)

    @post_load
    def build(self, data: dict[str, Any], **_: Any) -> Target:
        """Return the fallback as a value."""
        return Target(**data)


class ReceiverSchema(StrictSchema):
    """Who is notified."""

    notify_url = text(
        maximum=2000,
        metadata={"description": "Receives the outcome as a signed POST (Standard Webhooks)."},
    )
    notify_task = text(
        maximum=200,
        metadata={"description": "The name of a Celery task on our broker. It gets the outcome."},
    )
    notify_queue = text(
        maximum=200,
        metadata={"description": "The Celery queue of `notify_task`. The default is `celery`."},
    )
    notify_stream = fields.String(
        validate=validate.Regexp(STREAM, error=STREAM_NAME),
        error_messages=always(STREAM_NAME),
        metadata={
            "description": "A Redis stream that gets the outcome: `{orch:0}:stream:<name>`.",
            "pattern": STREAM_PATTERN,
        },
    )


class JobRequestSchema(ReceiverSchema):
    """The body of `POST /v1/jobs`: the unified fields, or the provider's own body in `request`.

    Args:
        providers: the allowed names in `provider`.
    """

    def __init__(self, providers: Iterable[str], **options: Any) -> None:
        self._providers = tuple(providers)
        super().__init__(**options)

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Limit `provider` to the known names, also in the OpenAPI document."""
        if field_name == "provider" and isinstance(field_obj, Text):
            field_obj.limit_to(self._providers)
        elif field_name == "fallback" and isinstance(field_obj, fields.List):
            nested: Any = field_obj.inner
            self.on_bind_field("provider", nested.schema.fields["provider"])

    provider = text(
        required=True,
        metadata={"description": "The provider that makes the images.", "example": "hiapi"},
    )
    model = text(
        required=True,
        maximum=200,
        metadata={
            "description": "The provider's own model name, or a family name. With `request` it may"
            " stand there only.",
            "example": "Nano-Banana-2",
        },
    )
    prompt = text(maximum=100_000, metadata={"example": "A lighthouse at dusk"})
    images = links(maximum=32)
    aspect_ratio = text(maximum=20, metadata={"example": "16:9"})
    resolution = text(maximum=20, metadata={"example": "2K"})
    output_format = text(maximum=20, metadata={"example": "png"})
    n = fields.Integer(
        strict=True,
        validate=validate.Range(1, 100, error="a whole number from 1 to 100"),
        error_messages=always("a whole number from 1 to 100"),
        metadata={"description": "Number of images."},
    )
    provider_options = fields.Dict(
        keys=fields.String(),
        error_messages=always("a JSON object with more fields of the provider's own body"),
        metadata={
            "description": "More fields of the provider's body. They are merged last. Fields that"
            " the catalog does not know are sent unchecked."
        },
    )
    request = fields.Dict(
        keys=fields.String(),
        error_messages=always("a JSON object with the provider's own request body"),
        metadata={
            "description": "The provider's own request body without its callback fields. It"
            " replaces the unified fields."
        },
    )
    metadata = fields.Dict(
        keys=fields.String(),
        error_messages=always("a JSON object"),
        metadata={"description": "Your own data. It is returned with the job."},
    )
    deadline_seconds = number(
        1,
        604_800,
        unit="seconds",
        metadata={"description": "The job fails after this many seconds."},
    )
    on_unconfirmed = text(
        one_of=("fail", "resubmit"),
        metadata={
            "description": "The action when nobody knows whether the provider accepted the"
            " request: fail, or submit once more with the risk of paying twice."
        },
    )

    fallback = ShortList(
        fields.Nested(FallbackSchema),
        maximum=MAX_FALLBACKS,
        too_long=FALLBACKS,
        validate=validate.Length(max=MAX_FALLBACKS, error=FALLBACKS),
        error_messages=always(FALLBACKS),
        metadata={
            "description": "The providers that are tried next, in this order. The next one is tried"
            " only when the one before has certainly not accepted the job.",
            "example": [{"provider": "evolink", "model": "nano-banana-2-lite"}],
        },
    )

    @pre_load
    def take_model(self, data: Any, **_: Any) -> Any:
        """Read the model from `request`, where the provider's own body has it."""
        native = data.get("request") if isinstance(data, Mapping) else None
        if not isinstance(native, Mapping) or "model" in data or "model" not in native:
            return data
        return {**data, "model": native["model"]}

    @validates("metadata")
    def check_metadata(self, value: Any, data_key: str) -> None:
        """Limit its size and depth."""
        if len(json_bytes(value)) > MAX_METADATA_BYTES:
            raise ValidationError(f"at most {MAX_METADATA_BYTES} bytes of JSON")

    @validates("request", "provider_options")
    def check_request(self, value: Any, data_key: str) -> None:
        """Limit its depth. The provider's schema checks the rest."""
        json_bytes(value)

    @validates_schema(skip_on_field_errors=True)
    def check_form(self, data: dict[str, Any], **_: Any) -> None:
        """Allow one of the two forms, not both."""
        if "request" not in data:
            if "prompt" not in data:
                raise ValidationError(REQUIRED, "prompt")
            return
        for name in (*UNIFIED_OPTIONS, "provider_options"):
            if name in data:
                raise ValidationError("left out when `request` is given; put it there", name)
        model = data["request"].setdefault("model", data["model"])
        if model != data["model"]:
            raise ValidationError(f"the same as in `request`: {model}", "model")

    @validates_schema(skip_on_field_errors=True)
    def check_fallback(self, data: dict[str, Any], **_: Any) -> None:
        """Allow each provider once, and only unified fields: others have another body."""
        if data.get("fallback") and "request" in data:
            raise ValidationError("left out when `request` is given", "fallback")
        named = {data["provider"]}
        for index, target in enumerate(data.get("fallback", ())):
            if target.provider in named:
                twice = {"provider": ["a provider that the request names only once"]}
                raise ValidationError({"fallback": {index: twice}})
            named.add(target.provider)

    @post_load
    def build(self, data: dict[str, Any], **_: Any) -> JobRequest:
        """Return the request as a value."""
        options = {name: data.pop(name) for name in UNIFIED_OPTIONS if name in data}
        fallback = tuple(data.pop("fallback", ()))
        native = data.pop("request", None)
        return JobRequest(native=native, options=options, fallback=fallback, **data)
