"""Jobs and events as JSON-ready data, in the form of the schemas."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orchestrator.jobs.batch import Batch
from orchestrator.jobs.event import Event
from orchestrator.jobs.model import Attempt, FollowUp, Image, Job, Move, Status
from orchestrator.jobs.request import JobRequest
from orchestrator.jsonio import rfc3339

#: A price table does not say whether these outcomes are charged.
MAYBE_FREE = (Status.FAILED, Status.CANCELLED)


def job_view(job: Job, base_url: str | None) -> dict[str, Any]:
    """Return a job as JSON-ready data, in the form of JobSchema.

    Args:
        job: the job.
        base_url: our API's address for the images' links. With None the links are paths.
    """
    request = job.request
    images = [
        {"url": f"{base_url or ''}/v1/jobs/{job.id}/images/{index}", **_image_view(image)}
        for index, image in enumerate(job.all_images)
    ]
    return {
        "id": job.id,
        "status": job.status.value,
        "tenant": job.tenant,
        "batch": job.batch,
        "retry_of": job.retry_of,
        "retried_as": job.retried_as,
        "provider": job.provider,
        "model": job.model,
        "request": _request_view(request),
        "attempts": [_attempt_view(attempt, job) for attempt in job.attempts],
        "fallbacks": [_move_view(move, request) for move in job.moves],
        "images": images[: len(job.images)],
        "late_images": images[len(job.images) :],
        "error": asdict(job.error) if job.error else None,
        "cost": cost_view(job),
        "archive": _follow_up_view(job.archive),
        "notification": _notification_view(job),
        "metadata": dict(request.metadata),
        "deadline_at": rfc3339(job.deadline_at),
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "settled_at": rfc3339(job.settled_at),
        "settled_by": job.settled_by.value if job.settled_by else None,
    }


def _attempt_view(attempt: Attempt, job: Job) -> dict[str, Any]:
    provider = job.provider_of(attempt.number)
    return {
        "number": attempt.number,
        "provider": provider,
        "model": job.request.at(provider).model,
        "task_id": attempt.task_id,
        "submitted_at": rfc3339(attempt.submitted_at),
    }


def _move_view(move: Move, request: JobRequest) -> dict[str, Any]:
    return {
        "at": rfc3339(move.at),
        "from": move.source,
        "provider": move.target,
        "model": request.at(move.target).model,
        "reason": move.reason,
    }


def _image_view(image: Image) -> dict[str, Any]:
    copy = image.copy
    return {
        "source_url": image.source_url or None,
        "expires_at": rfc3339(image.expires_at),
        "archived_at": rfc3339(copy.archived_at) if copy else None,
        "sha256": copy.sha256 if copy else None,
        "bytes": copy.bytes if copy else None,
        "width": copy.width if copy else None,
        "height": copy.height if copy else None,
        "content_type": copy.content_type if copy else None,
        "checked": copy.checked if copy else None,
        "check_error": copy.check_error if copy else None,
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
    """Return the request as the caller sent it."""
    view = dict(request.native if request.native is not None else request.options)
    if request.provider_options:
        view["provider_options"] = dict(request.provider_options)
    if request.fallback:
        view["fallback"] = [asdict(target) for target in request.fallback]
    if request.upload:
        view["image_file"] = asdict(request.upload)
    return view


def cost_view(job: Job) -> dict[str, Any] | None:
    """Return the cost, or None until a provider accepted the job."""
    known = job.cost and (job.cost.source == "reported" or job.status not in MAYBE_FREE)
    if job.cost and known:
        return {"amount": job.cost.amount, "unit": job.cost.unit, "source": job.cost.source}
    accepted = any(attempt.task_id for attempt in job.attempts)
    return {"amount": None, "unit": None, "source": "unknown"} if accepted else None


def batch_view(batch: Batch) -> dict[str, Any]:
    """Return a batch as JSON-ready data, in the form of BatchSchema."""
    view = _follow_up_view(batch.notification)
    return {
        "id": batch.id,
        "status": "completed" if batch.complete else "open",
        "tenant": batch.tenant,
        "total": batch.total,
        "counts": {status.value: batch.counts.get(status, 0) for status in Status},
        "notification": {"to": batch.receiver.name, **view} if view else None,
        "created_at": rfc3339(batch.created_at),
        "completed_at": rfc3339(batch.completed_at),
    }


def event_view(event: Event) -> dict[str, Any]:
    """Return an event as JSON-ready data, in the form of EventSchema."""
    return {"at": rfc3339(event.at), "event": event.name, "detail": dict(event.detail)}
