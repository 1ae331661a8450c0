"""The JSON of requests and of jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from marshmallow import (
    Schema,
    ValidationError,
    fields,
    post_load,
    pre_load,
    validate,
    validates,
    validates_schema,
)

from orchestrator.jobs.model import ErrorCode, FollowUpStatus, SettledBy, Status
from orchestrator.jobs.request import UNIFIED_OPTIONS, JobRequest, Target
from orchestrator.jobs.validation import (
    REQUIRED,
    OneOf,
    OneOfNames,
    ShortList,
    StrictSchema,
    always,
    json_bytes,
    links,
    text,
)

#: The largest metadata of a job. Bytes of JSON.
MAX_METADATA_BYTES = 16 * 1024
#: The deepest metadata, native request or provider_options. Levels.
MAX_DEPTH = 32

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
        if field_name == "provider":
            field_obj.validators = [OneOf(self._providers)]
            field_obj.error_messages["invalid"] = OneOfNames(self._providers)
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
    deadline_seconds = fields.Float(
        validate=validate.Range(1, 604_800, error="a number of seconds from 1 to 604800"),
        error_messages=always("a number of seconds from 1 to 604800"),
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
        if len(json_bytes(value, MAX_DEPTH)) > MAX_METADATA_BYTES:
            raise ValidationError(f"at most {MAX_METADATA_BYTES} bytes of JSON")

    @validates("request", "provider_options")
    def check_request(self, value: Any, data_key: str) -> None:
        """Limit its depth. The provider's schema checks the rest."""
        json_bytes(value, MAX_DEPTH)

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


class AnswerSchema(Schema):
    """What we answer. Every field is always there, except those in OPTIONAL."""

    OPTIONAL: frozenset[str] = frozenset()

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Mark the fields that are always there, for the OpenAPI document."""
        field_obj.required = field_name not in self.OPTIONAL


def timestamp(**options: Any) -> fields.String:
    """Return a field for a time: RFC 3339, UTC."""
    return fields.String(metadata={"format": "date-time"}, **options)


def name_of(names: type[StrEnum], **options: Any) -> fields.String:
    """Return a field for one of the names of an enumeration."""
    return fields.String(validate=validate.OneOf([each.value for each in names]), **options)


class AttemptSchema(AnswerSchema):
    """One submission of a job to its provider."""

    number = fields.Integer()
    provider = fields.String()
    model = fields.String()
    task_id = fields.String(allow_none=True)
    submitted_at = timestamp()


class MoveSchema(AnswerSchema):
    """A move to a fallback: when, from which provider, to which one, and why."""

    at = timestamp()
    from_ = fields.String(data_key="from")
    provider = fields.String()
    model = fields.String()
    reason = fields.String(metadata={"description": "An error code, or what the job waited for."})


class ImageSchema(AnswerSchema):
    """One image: our lasting link, the provider's link and its expiry time (null: unknown).

    Until our copy exists, our link passes the provider's image on, the fields of the copy are null,
    and `error` is the reason of the last failed try. `source_url` is null when the image came
    inside the provider's answer. `checked` says whether our copy is an image that we decoded
    completely; if not, `check_error` is the reason.
    """

    url = fields.String()
    source_url = fields.String(allow_none=True)
    expires_at = timestamp(allow_none=True)
    archived_at = timestamp(allow_none=True)
    sha256 = fields.String(allow_none=True)
    bytes = fields.Integer(allow_none=True)
    width = fields.Integer(allow_none=True)
    height = fields.Integer(allow_none=True)
    content_type = fields.String(allow_none=True)
    checked = fields.Boolean(allow_none=True)
    check_error = fields.String(allow_none=True)
    error = fields.String(allow_none=True)


class FollowUpSchema(AnswerSchema):
    """The state of the archive or of the notification."""

    status = name_of(FollowUpStatus)
    attempts = fields.Integer()
    last_attempt_at = timestamp(allow_none=True)
    next_attempt_at = timestamp(allow_none=True)
    error = fields.String(allow_none=True)


class NotificationSchema(FollowUpSchema):
    """The state of the notification, and its receiver: a host, a Celery task or a stream."""

    to = fields.String()


class JobErrorSchema(AnswerSchema):
    """The reason why a job failed: our code, the provider's message and code."""

    code = name_of(ErrorCode)
    message = fields.String()
    provider_code = fields.String(allow_none=True)
    retryable = fields.Boolean()


class CostSchema(AnswerSchema):
    """The cost: `reported` by the provider, `computed` from a price table, or `unknown`."""

    amount = fields.Float(allow_none=True)
    unit = fields.String(allow_none=True)
    source = fields.String(validate=validate.OneOf(["reported", "computed", "unknown"]))


class JobSchema(AnswerSchema):
    """A job. Times are RFC 3339, UTC."""

    id = fields.String()
    status = name_of(Status)
    tenant = fields.String(metadata={"description": "The owner of the job."})
    batch = fields.String(
        allow_none=True, metadata={"description": "The batch whose request made the job."}
    )
    provider = fields.String()
    model = fields.String()
    request = fields.Dict()
    attempts = fields.List(fields.Nested(AttemptSchema))
    fallbacks = fields.List(
        fields.Nested(MoveSchema), metadata={"description": "The moves to another provider."}
    )
    images = fields.List(fields.Nested(ImageSchema))
    late_images = fields.List(
        fields.Nested(ImageSchema),
        metadata={"description": "Images of a success that came after the outcome."},
    )
    error = fields.Nested(JobErrorSchema, allow_none=True)
    cost = fields.Nested(CostSchema, allow_none=True)
    archive = fields.Nested(FollowUpSchema, allow_none=True)
    notification = fields.Nested(NotificationSchema, allow_none=True)
    metadata = fields.Dict()
    deadline_at = timestamp()
    created_at = timestamp()
    updated_at = timestamp()
    settled_at = timestamp(allow_none=True)
    settled_by = name_of(SettledBy, allow_none=True)


class CurrentJobSchema(JobSchema):
    """A job as it is now. Times are RFC 3339, UTC."""

    OPTIONAL = frozenset({"waiting_for", "next_attempt_at"})

    waiting_for = fields.String(metadata={"description": "What an open job waits for."})
    next_attempt_at = fields.String(
        allow_none=True, metadata={"description": "When an open job is tried next, if known."}
    )


class BatchCountsSchema(AnswerSchema):
    """The jobs of a batch by status."""

    queued = fields.Integer()
    submitting = fields.Integer()
    unconfirmed = fields.Integer()
    running = fields.Integer()
    succeeded = fields.Integer()
    failed = fields.Integer()
    cancelled = fields.Integer()


class BatchSchema(AnswerSchema):
    """A batch. It is completed when every job has its outcome."""

    id = fields.String()
    status = fields.String(validate=validate.OneOf(["open", "completed"]))
    tenant = fields.String()
    total = fields.Integer(metadata={"description": "The number of its jobs."})
    counts = fields.Nested(BatchCountsSchema)
    notification = fields.Nested(NotificationSchema, allow_none=True)
    created_at = timestamp()
    completed_at = timestamp(allow_none=True)


class EventSchema(AnswerSchema):
    """One event of a job's timeline."""

    at = timestamp()
    event = fields.String()
    detail = fields.Dict()
