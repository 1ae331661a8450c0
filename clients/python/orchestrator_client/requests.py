"""What callers give to the client: requests of jobs, receivers of notifications, filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

#: The state of a job.
Status = Literal[
    "queued", "submitting", "unconfirmed", "running", "succeeded", "failed", "cancelled"
]


class Fallback(TypedDict):
    """A provider that is tried next, with its model."""

    provider: str
    model: str


class Receiver(TypedDict, total=False):
    """Who is notified: one of a URL, a Celery task, or a Redis stream."""

    notify_url: str
    notify_task: str
    notify_queue: str
    notify_stream: str


class JobRequest(Receiver, total=False):
    """The request of a job. docs/http-api.md of the server explains each field.

    `provider` is needed, and either `model` and `prompt`, or the provider's own body in `request`.
    """

    provider: str
    model: str
    prompt: str
    images: Sequence[str]
    aspect_ratio: str
    resolution: str
    output_format: str
    n: int
    provider_options: Mapping[str, Any]
    request: Mapping[str, Any]
    metadata: Mapping[str, Any]
    deadline_seconds: float
    on_unconfirmed: Literal["fail", "resubmit"]
    fallback: Sequence[Fallback]


class BatchJobRequest(JobRequest, total=False):
    """The request of a job in a batch. It may have a key of its own."""

    idempotency_key: str


class JobFilter(TypedDict, total=False):
    """Chooses jobs. Every given field must match."""

    status: Status
    provider: str
    model: str
    tenant: str
    task_id: str
    idempotency_key: str
    error: str
    batch: str
    metadata: Mapping[str, str]
    created_after: datetime
    created_before: datetime
    unconfirmed: bool
    at_risk: bool
    archive: str
    notification: str
    q: str
