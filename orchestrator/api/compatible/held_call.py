"""Holds the answer to a call until its job has an outcome, and its images can be sent."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import log
from orchestrator.api import holds
from orchestrator.api.holds import EventStream
from orchestrator.jobs.model import FollowUpStatus, Image, Job, Status
from orchestrator.ledger.keys import settled
from orchestrator.runtime import Runtime

#: An answer is given this long before the client's own time-out: a part of it, at least and at
#: most. Seconds.
MARGIN, MIN_MARGIN_SECONDS, MAX_MARGIN_SECONDS = 0.1, 0.5, 5.0
#: The longest time between two signs of life of a stream. Seconds.
MAX_KEEP_ALIVE_SECONDS = 15.0
#: The `Retry-After` of an answer that cannot be held now. Seconds.
RETRY_SECONDS = "1"
#: An image counts as lost when its host has said this often that there is no such file. Callers do
#: not wait for the other tries of the archive, which take ten minutes.
LOST_TRIES = 3
#: The header of every answer that names its job, or its jobs.
JOB_HEADER = "X-Orchestrator-Job-Id"
#: The most ignored fields that an answer names.
MAX_IGNORED = 20
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")


class StillOpen(Exception):
    """There is nothing to answer yet.

    Attributes:
        job_id: the job, which goes on.
        timed_out: the longest wait is over. Otherwise the server cannot hold the answer now.
    """

    def __init__(self, job_id: str, *, timed_out: bool) -> None:
        super().__init__(job_id)
        self.job_id = job_id
        self.timed_out = timed_out

    @property
    def text(self) -> str:
        """What the caller is told."""
        if not self.timed_out:
            return (
                f"The job {self.job_id} goes on, and this process cannot wait for it now. Send the"
                " same request again: it joins this job."
            )
        return (
            f"The job {self.job_id} has no outcome yet. It goes on, and nothing is lost. Get it at"
            f" {self._path}, or send the same request again: it joins this job."
        )

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        headers = {"Location": self._path}
        return headers if self.timed_out else {**headers, "Retry-After": RETRY_SECONDS}

    @property
    def _path(self) -> str:
        return f"/v1/jobs/{self.job_id}"


class JobFailed(Exception):
    """The job has an outcome, and it is no success."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


@dataclass(frozen=True, slots=True)
class CallJob:
    """A job of a call.

    Attributes:
        id: of the job.
        digest: of the request; empty with an idempotency key.
        joined: an earlier request made the job.
    """

    id: str
    digest: str
    joined: bool


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A call whose jobs exist. There are several if the provider makes one image per task.

    Attributes:
        jobs: the jobs.
        model: as the caller named it.
        ends_at: the end of the wait, ms.
        needs_copies: the answer has the images themselves, so the archive must have them.
        ignored: the fields of the request that its model does not have.
        options: what the answer depends on besides.
        stream: the stream of events that the client asked for.
    """

    jobs: tuple[CallJob, ...]
    model: str
    ends_at: int
    needs_copies: bool
    ignored: tuple[str, ...]
    options: Any
    stream: EventStream | None = None

    def streaming(self, client_timeout: float | None, *, keep_alive: bytes) -> HeldCall:
        """Return the call with a stream of events.

        Args:
            client_timeout: the signs of life come more often than this, seconds.
            keep_alive: a sign of life.
        """
        interval = min(MAX_KEEP_ALIVE_SECONDS, (client_timeout or math.inf) / 3)
        headers = (
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-store"),
            ("X-Accel-Buffering", "no"),  # nginx passes the events on at once
            *call_headers(self).items(),
        )
        return replace(self, stream=EventStream(headers, keep_alive, max(0.1, interval)))

    def finished_jobs(self, runtime: Runtime) -> list[Job]:
        """Return the jobs that have succeeded, when all have their outcomes and can be answered.

        Raises:
            StillOpen: they cannot. The server was asked to hold the answer, unless the wait is
                over.
            JobFailed: no job has succeeded.
            LedgerUnavailable: Redis is away.
        """
        jobs = [self._ready_job(runtime, each.id) for each in self.jobs]
        succeeded = [job for job in jobs if job.status is Status.SUCCEEDED]
        images = [image for job in succeeded for image in job.images]
        if all(image.given_up for image in images):
            self.record_answer(runtime)
        if not succeeded:
            raise JobFailed(jobs[0])
        return succeeded

    def record_answer(self, runtime: Runtime) -> None:
        """Record that the outcome is answered, so that the same request may make a new job."""
        for job in self.jobs:
            if job.digest:
                runtime.ledger.repeats.record_answer(job.digest, job.id, now=runtime.clock())

    def _ready_job(self, runtime: Runtime, job_id: str) -> Job:
        """Return a job that can be answered. Otherwise ask the server to hold the answer.

        Raises:
            StillOpen: it cannot be answered.
        """
        job = runtime.ledger.get(job_id)
        if job is not None and self._is_ready(job):
            return job
        left_ms = self.ends_at - runtime.clock()
        if left_ms > 0:
            self._hold(runtime, job_id, left_ms / 1000)
        else:
            status = job.status if job else "unknown"
            log.get().warning("call_timed_out", job=job_id, status=status)
        raise StillOpen(job_id, timed_out=left_ms <= 0)

    def _hold(self, runtime: Runtime, job_id: str, seconds: float) -> None:
        def over() -> bool:
            job = runtime.ledger.get(job_id)
            return job is None or self._is_ready(job)

        stream = self.stream if holds.state() is None else None
        holds.hold(settled(job_id), over, seconds, state=self, stream=stream)

    def _is_ready(self, job: Job) -> bool:
        if not job.status.terminal:
            return False
        archiving = job.archive is not None and job.archive.status in _ARCHIVING
        return not (self.needs_copies and archiving) or _all_decided(job)


_ARCHIVING = (FollowUpStatus.WAITING, FollowUpStatus.PENDING)


def _all_decided(job: Job) -> bool:
    """Return whether each image has a copy, or is lost."""
    return all(image.copy or is_lost(image) for image in job.images)


def is_lost(image: Image) -> bool:
    """Return whether a caller is told that there is no image. Its archive may still be tried."""
    if image.copy:
        return False
    return image.given_up or (image.missing and image.tries >= LOST_TRIES)


def call_headers(call: HeldCall) -> dict[str, str]:
    """Return the headers that name the jobs of an answer, and the fields that were ignored."""
    headers = {JOB_HEADER: ", ".join(job.id for job in call.jobs)}
    if all(job.joined for job in call.jobs):
        headers["Idempotent-Replay"] = "true"
    # A caller chooses some of the names. Others than these could break the header.
    ignored = [name for name in call.ignored if _FIELD_NAME.fullmatch(name)][:MAX_IGNORED]
    if ignored:
        headers["X-Orchestrator-Ignored"] = ", ".join(ignored)
    return headers


def held_call(
    runtime: Runtime,
    model: str,
    jobs: tuple[CallJob, ...],
    *,
    client_timeout: float | None,
    keep_alive: bytes,
    needs_copies: bool,
    ignored: tuple[str, ...],
    options: Any,
) -> HeldCall:
    """Return a call that begins now.

    Args:
        runtime: of this process.
        model, jobs, needs_copies, ignored, options: of the call.
        client_timeout: the time after which the client gives up, seconds; None: it does not say.
        keep_alive: a sign of life, if the client asked for a stream; otherwise empty.
    """
    seconds = _wait_seconds(runtime, None if keep_alive else client_timeout)
    ends_at = runtime.clock() + int(seconds * 1000)
    call = HeldCall(jobs, model, ends_at, needs_copies, ignored, options)
    return call.streaming(client_timeout, keep_alive=keep_alive) if keep_alive else call


def _wait_seconds(runtime: Runtime, client_timeout: float | None) -> float:
    """Return how long an answer may be held.

    Args:
        runtime: of this process.
        client_timeout: the time after which the client gives up; None: it does not say.
    """
    longest = runtime.settings.answer_wait_seconds
    if client_timeout is None:
        return longest
    margin = min(max(client_timeout * MARGIN, MIN_MARGIN_SECONDS), MAX_MARGIN_SECONDS)
    return max(0.0, min(longest, client_timeout - margin))


def timeout_in(header: Callable[[str], str | None], *names: str) -> float | None:
    """Return the client's time-out in one of its headers, seconds; None if it does not say."""
    for name in names:
        try:
            seconds = float(header(name) or "")
        except ValueError:
            continue
        if seconds > 0:
            return seconds if math.isfinite(seconds) else None
    return None
