"""The JSON of what we answer: jobs, batches and events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from marshmallow import Schema, fields, validate

from orchestrator.jobs.model import ErrorCode, FollowUpStatus, SettledBy, Status


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
    retry_of = fields.String(
        allow_none=True, metadata={"description": "The id of the job that this one retries."}
    )
    retried_as = fields.String(
        allow_none=True, metadata={"description": "The id of the job that retries this one."}
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
