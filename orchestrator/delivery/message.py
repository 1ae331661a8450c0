"""The content of a notification. All deliveries of one message have the same id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.batch import Batch
from orchestrator.jobs.model import Job
from orchestrator.jobs.views import batch_view, job_view
from orchestrator.jsonio import dump, rfc3339


@dataclass(frozen=True, slots=True)
class Message:
    """One notification. Receivers recognise a repeated delivery by `id`."""

    id: str
    type: str
    content: dict[str, Any]

    @property
    def body(self) -> bytes:
        """The content as JSON."""
        return dump(self.content)


def message(job: Job, base_url: str | None) -> Message:
    """Return the message about a job's outcome, in the form that Standard Webhooks recommends.

    A job that notifies its late result has another type and message id. So has each further one.

    Args:
        job: a terminal job.
        base_url: our API's address, for the images' links.
    """
    late = job.notifies_late_result
    suffix = ("_late" if job.late_results < 2 else f"_late{job.late_results}") if late else ""
    kind = "job.late_result" if late else f"job.{job.status}"
    content = {
        "type": kind,
        "timestamp": rfc3339(job.updated_at if late else job.settled_at),
        "data": job_view(job, base_url),
    }
    return Message(f"msg_{job.id}{suffix}", kind, content)


def batch_message(batch: Batch) -> Message:
    """Return the message about a completed batch."""
    kind = "batch.completed"
    content = {"type": kind, "timestamp": rfc3339(batch.completed_at), "data": batch_view(batch)}
    return Message(f"msg_{batch.id}", kind, content)
