"""Jobs as rows of a table. The macro `jobs_table` shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.model import FollowUpStatus, Job, Status
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.views import cost_view
from orchestrator.ledger import Waiting
from orchestrator.ledger.admission import WaitReason
from orchestrator.runtime import Runtime

#: The end of an id that a table shows. Ids of one hour begin with the same characters.
SHORT_ID_CHARACTERS = 10
#: What an open job waits for, in a few words.
WAITS: Mapping[WaitReason, str] = {
    WaitReason.PAUSED: "provider paused",
    WaitReason.CIRCUIT_OPEN: "provider failing",
    WaitReason.CIRCUIT_PROBING: "provider being tried",
    WaitReason.RATE_LIMIT: "waits for the rate limit",
    WaitReason.IN_FLIGHT_LIMIT: "waits for a place",
    WaitReason.WORKER: "waits for a worker",
    WaitReason.RETRY: "waits for the next try",
    WaitReason.ANSWER: "waits for an answer",
    WaitReason.CALLBACK: "waits for a callback",
    WaitReason.OUTCOME: "waits for its images",
}


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job of a table.

    Attributes:
        seconds: from its creation to its outcome, or until now.
        thumbnail: the number of the first image that has one, or None.
        waits: what an open job waits for, or None.
        remarks: what else somebody should know, as pairs: a tone and a few words.
    """

    job: Job
    prompt: str
    seconds: float
    cost: Mapping[str, Any] | None
    thumbnail: int | None
    waits: str | None
    remarks: tuple[tuple[str, str], ...]

    @property
    def short_id(self) -> str:
        """The end of its id."""
        return f"…{self.job.id[-SHORT_ID_CHARACTERS:]}"


def job_rows(runtime: Runtime, jobs: Sequence[Job]) -> list[JobRow]:
    """Return jobs as rows.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    now = runtime.clock()
    waits = runtime.ledger.admission.waits(jobs, now=now) if jobs else {}
    return [_row(job, waits.get(job.id), now) for job in jobs]


def prompt_of(request: JobRequest) -> str:
    """Return the prompt of a request, or nothing. The native form has it at several places."""
    body: Mapping[str, Any] = request.native if request.native is not None else request.options
    inner = body.get("input")
    prompt = body.get("prompt") or (inner.get("prompt") if isinstance(inner, Mapping) else None)
    return str(prompt or "")


def _row(job: Job, waiting: Waiting | None, now: int) -> JobRow:
    pictures = (n for n, i in enumerate(job.all_images) if i.copy and i.copy.thumbnail)
    return JobRow(
        job,
        prompt_of(job.request),
        max(0, (job.settled_at or now) - job.created_at) / 1000,
        cost_view(job),
        next(pictures, None),
        WAITS.get(waiting.reason, waiting.reason.value) if waiting else None,
        tuple(_remarks(job)),
    )


def _remarks(job: Job) -> list[tuple[str, str]]:
    remarks = []
    if job.error and job.status is Status.FAILED:
        remarks.append(("bad", job.error.code.value))
    if job.retried_as:
        remarks.append(("", "retried"))
    if len(job.all_images) > 1:
        remarks.append(("", f"{len(job.all_images)} images"))
    if job.archive and job.archive.status is FollowUpStatus.DEAD:
        remarks.append(("bad", "images not archived"))
    elif job.archive and job.archive.status is FollowUpStatus.PENDING:
        remarks.append(("busy", "archiving"))
    if job.notification and job.notification.status is FollowUpStatus.DEAD:
        remarks.append(("bad", "caller not notified"))
    elif job.notification and job.notification.status is FollowUpStatus.PENDING:
        remarks.append(("busy", "notifying"))
    return remarks
