"""The request a caller sends, and the job a caller sees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from marshmallow import (
    Schema,
    ValidationError,
    fields,
    post_load,
    validate,
    validates,
    validates_schema,
)

from orchestrator.jobs.model import (
    UNIFIED_OPTIONS,
    Event,
    FollowUp,
    FollowUpStatus,
    Image,
    Job,
    JobRequest,
    Status,
)
from orchestrator.jobs.validation import StrictSchema, always, links, text
from orchestrator.jsonio import dump

#: The most that a job's metadata, and its native request, may hold. Bytes of JSON; levels.
MAX_METADATA = 16 * 1024
MAX_DEPTH = 32

#: What a stream of notifications may be called.
STREAM = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
STREAM_NAME = "1 to 64 letters, digits, _ . -"

#: Where a price table does not tell whether anything was charged.
UNPAID = (Status.FAILED, Status.CANCELLED)


class JobRequestSchema(StrictSchema):
    """What `POST /v1/jobs` takes: the unified fields, or the provider's own body in `request`.

    Args:
        providers: the names that `provider` may have.
    """

    def __init__(self, providers: Iterable[str], **options: Any) -> None:
        self._providers = tuple(providers)
        super().__init__(**options)

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Limit `provider` to the known names, also in the OpenAPI document."""
        if field_name == "provider":
            allowed = f"one of {', '.join(self._providers)}"
            field_obj.validators = [validate.OneOf(self._providers, error=allowed)]

    provider = text(
        required=True,
        metadata={"description": "Whose API makes the images.", "example": "hiapi"},
    )
    model = text(
        required=True,
        maximum=200,
        metadata={"description": "A model of that provider.", "example": "Nano-Banana-2"},
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
        metadata={"description": "How many images."},
    )
    provider_options = fields.Dict(
        keys=fields.String(),
        error_messages=always("a JSON object: more fields of the provider's own body"),
        metadata={
            "description": "Merged into the provider's body last: what the unified fields cannot"
            " say. Fields that our catalog does not know are sent unchecked."
        },
    )
    request = fields.Dict(
        keys=fields.String(),
        error_messages=always("a JSON object: the provider's own request body"),
        metadata={
            "description": "The provider's own request body, without its callback;"
            " in place of the unified fields."
        },
    )
    metadata = fields.Dict(
        keys=fields.String(),
        error_messages=always("a JSON object"),
        metadata={"description": "Anything; comes back with the job."},
    )
    deadline_seconds = fields.Float(
        validate=validate.Range(1, 604_800, error="a number of seconds from 1 to 604800"),
        error_messages=always("a number of seconds from 1 to 604800"),
        metadata={"description": "After this many seconds the job fails."},
    )
    on_unconfirmed = text(
        one_of=("fail", "resubmit"),
        metadata={
            "description": "When nobody can tell whether the provider took the request: fail, or"
            " submit once more at the risk of paying twice."
        },
    )

    notify_url = text(
        maximum=2000,
        metadata={"description": "Told of the outcome by a signed POST (Standard Webhooks)."},
    )
    notify_task = text(
        maximum=200,
        metadata={"description": "A Celery task on our broker that is told, by its name."},
    )
    notify_queue = text(
        maximum=200, metadata={"description": "The Celery queue of `notify_task`; `celery`."}
    )
    notify_stream = fields.String(
        validate=validate.Regexp(STREAM, error=STREAM_NAME),
        error_messages=always(STREAM_NAME),
        metadata={"description": "A Redis stream that is told: `{orch:0}:stream:<name>`."},
    )

    @validates("metadata")
    def check_metadata(self, value: Any, data_key: str) -> None:
        """Cap its size and depth."""
        if depth(value) > MAX_DEPTH:
            raise ValidationError(f"at most {MAX_DEPTH} levels deep")
        if len(_encoded(value)) > MAX_METADATA:
            raise ValidationError(f"at most {MAX_METADATA} bytes of JSON")

    @validates("request", "provider_options")
    def check_request(self, value: Any, data_key: str) -> None:
        """Cap its depth; the provider's schema does the rest."""
        if depth(value) > MAX_DEPTH:
            raise ValidationError(f"at most {MAX_DEPTH} levels deep")
        _encoded(value)

    @validates_schema(skip_on_field_errors=True)
    def check_form(self, data: dict[str, Any], **_: Any) -> None:
        """One of the two forms, not both."""
        if "request" not in data:
            if "prompt" not in data:
                raise ValidationError("this field is required (or `request`)", "prompt")
            return
        for name in (*UNIFIED_OPTIONS, "provider_options"):
            if name in data:
                raise ValidationError("absent when `request` is given: put it in there", name)
        model = data["request"].setdefault("model", data["model"])
        if model != data["model"]:
            raise ValidationError(f"the same as in `request`: {model}", "model")

    @post_load
    def build(self, data: dict[str, Any], **_: Any) -> JobRequest:
        """The request as a value."""
        options = {name: data.pop(name) for name in UNIFIED_OPTIONS if name in data}
        return JobRequest(native=data.pop("request", None), options=options, **data)


class AttemptSchema(Schema):
    """One submission of a job to its provider."""

    number = fields.Integer()
    provider = fields.String()
    task_id = fields.String(allow_none=True)
    submitted_at = fields.String()


class ImageSchema(Schema):
    """One image: our link, which lasts, and the provider's, and when that dies (null: not told).

    What follows `archived_at` is null until our copy is there; `error` says what kept us from it.
    Until then our link leads to the provider's.
    """

    url = fields.String()
    source_url = fields.String()
    expires_at = fields.String(allow_none=True)
    archived_at = fields.String(allow_none=True)
    sha256 = fields.String(allow_none=True)
    bytes = fields.Integer(allow_none=True)
    width = fields.Integer(allow_none=True)
    height = fields.Integer(allow_none=True)
    content_type = fields.String(allow_none=True)
    error = fields.String(allow_none=True)


class FollowUpSchema(Schema):
    """How far the archive, or the notification, is."""

    status = fields.String(validate=validate.OneOf([s.value for s in FollowUpStatus]))
    attempts = fields.Integer()
    last_attempt_at = fields.String(allow_none=True)
    next_attempt_at = fields.String(allow_none=True)
    error = fields.String(allow_none=True)


class NotificationSchema(FollowUpSchema):
    """How far the notification is, and where it goes: the host, the Celery task, or the stream."""

    to = fields.String()


class JobErrorSchema(Schema):
    """Why a job failed: our code, the provider's words and code."""

    code = fields.String()
    message = fields.String()
    provider_code = fields.String(allow_none=True)
    retryable = fields.Boolean()


class CostSchema(Schema):
    """What it cost, and how we know: `reported` by the provider, `computed` by us, or `unknown`."""

    amount = fields.Float(allow_none=True)
    unit = fields.String(allow_none=True)
    source = fields.String()


class JobSchema(Schema):
    """A job as a caller sees it. Times are RFC 3339, UTC."""

    id = fields.String()
    status = fields.String()
    provider = fields.String()
    model = fields.String()
    request = fields.Dict()
    attempts = fields.List(fields.Nested(AttemptSchema))
    images = fields.List(fields.Nested(ImageSchema))
    error = fields.Nested(JobErrorSchema, allow_none=True)
    cost = fields.Nested(CostSchema, allow_none=True)
    archive = fields.Nested(FollowUpSchema, allow_none=True)
    notification = fields.Nested(NotificationSchema, allow_none=True)
    metadata = fields.Dict()
    deadline_at = fields.String()
    created_at = fields.String()
    updated_at = fields.String()
    settled_at = fields.String(allow_none=True)
    settled_by = fields.String(allow_none=True)


class EventSchema(Schema):
    """One line of a job's timeline."""

    at = fields.String()
    event = fields.String()
    detail = fields.Dict()


def job_view(job: Job, base_url: str | None) -> dict[str, Any]:
    """A job as JSON-ready data, in the form of JobSchema.

    Args:
        job: what the ledger holds.
        base_url: where our API is, for the images' links; None makes them paths only.
    """
    request = job.request
    return {
        "id": job.id,
        "status": job.status.value,
        "provider": request.provider,
        "model": request.model,
        "request": _request_view(request),
        "attempts": [
            {
                "number": attempt.number,
                "provider": request.provider,
                "task_id": attempt.task_id,
                "submitted_at": rfc3339(attempt.submitted_at),
            }
            for attempt in job.attempts
        ],
        "images": [
            {"url": f"{base_url or ''}/v1/jobs/{job.id}/images/{index}", **_image_view(image)}
            for index, image in enumerate(job.images)
        ],
        "error": asdict(job.error) if job.error else None,
        "cost": _cost_view(job),
        "archive": _follow_up_view(job.archive),
        "notification": _notification_view(job),
        "metadata": dict(request.metadata),
        "deadline_at": rfc3339(job.deadline_at),
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "settled_at": rfc3339(job.settled_at),
        "settled_by": job.settled_by.value if job.settled_by else None,
    }


def _image_view(image: Image) -> dict[str, Any]:
    copy = image.copy
    return {
        "source_url": image.source_url,
        "expires_at": rfc3339(image.expires_at),
        "archived_at": rfc3339(copy.archived_at) if copy else None,
        "sha256": copy.sha256 if copy else None,
        "bytes": copy.bytes if copy else None,
        "width": copy.width if copy else None,
        "height": copy.height if copy else None,
        "content_type": copy.content_type if copy else None,
        "error": image.error,
    }


def _follow_up_view(follow_up: FollowUp | None) -> dict[str, Any] | None:
    if follow_up is None:
        return None
    return {
        "status": follow_up.status.value,
        "attempts": follow_up.tries,
        "last_attempt_at": rfc3339(follow_up.tried_at),
        "next_attempt_at": rfc3339(follow_up.due_at),
        "error": follow_up.error,
    }


def _notification_view(job: Job) -> dict[str, Any] | None:
    view = _follow_up_view(job.notification)
    return {"to": job.request.notifies, **view} if view else None


def _request_view(request: JobRequest) -> dict[str, Any]:
    """What was asked, as it was said."""
    view = dict(request.native if request.native is not None else request.options)
    if request.provider_options:
        view["provider_options"] = dict(request.provider_options)
    if request.upload:
        view["image_file"] = asdict(request.upload)
    return view


def _cost_view(job: Job) -> dict[str, Any] | None:
    """None until a provider took the job. What a failure costs is only known where it is told."""
    known = job.cost and (job.cost.source == "reported" or job.status not in UNPAID)
    if job.cost and known:
        return asdict(job.cost)
    taken = any(attempt.task_id for attempt in job.attempts)
    return {"amount": None, "unit": None, "source": "unknown"} if taken else None


def event_view(event: Event) -> dict[str, Any]:
    """An event as JSON-ready data, in the form of EventSchema."""
    return {"at": rfc3339(event.at), "event": event.name, "detail": dict(event.detail)}


def rfc3339(time: int | None) -> str | None:
    """A time in ms as RFC 3339 text, to the millisecond."""
    if time is None:
        return None
    moment = datetime.fromtimestamp(time / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def depth(value: Any) -> int:
    """How many levels of objects and lists a JSON value has. Does not recurse."""
    levels, layer = 0, [value]
    while layer := [v for v in layer if isinstance(v, Mapping | list)]:
        levels += 1
        if levels > MAX_DEPTH:
            break
        layer = [
            v for inner in layer for v in (inner.values() if isinstance(inner, Mapping) else inner)
        ]
    return levels


def _encoded(value: Any) -> bytes:
    try:
        return dump(value)
    except (TypeError, ValueError):
        raise ValidationError("only what JSON can hold") from None
