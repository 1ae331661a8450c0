"""What a caller is told: one message for each outcome, with one id in all its deliveries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.model import Job
from orchestrator.jobs.schemas import job_view, rfc3339
from orchestrator.jsonio import dump


@dataclass(frozen=True, slots=True)
class Message:
    """One notification; `id` is what receivers recognise a repeated delivery by."""

    id: str
    type: str
    content: dict[str, Any]

    @property
    def body(self) -> bytes:
        """It as JSON."""
        return dump(self.content)


def message(job: Job, base_url: str | None) -> Message:
    """The message about a job's outcome, in the form that Standard Webhooks recommends.

    Args:
        job: a terminal one.
        base_url: where our API is, for the images' links.
    """
    kind = f"job.{job.status}"
    content = {
        "type": kind,
        "timestamp": rfc3339(job.settled_at),
        "data": job_view(job, base_url),
    }
    return Message(f"msg_{job.id}", kind, content)
