"""The submit step: send an attempt to its provider, and never pay twice for it.

The ledger records `submitting` before the request is sent. Then one of three results is recorded:
the provider accepted it (running), the provider refused it (queued again, or failed), or nobody
knows (unconfirmed). An unconfirmed attempt is sent again only with the same idempotency key. For a
provider without keys, the job waits for the callback.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator import log
from orchestrator.backoff import (
    FIRST_RESEND_SECONDS,
    FIRST_RETRY_SECONDS,
    LONGEST_RESEND_SECONDS,
    LONGEST_RETRY_SECONDS,
    back_off,
    first_poll_delay,
)
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.jobs.model import ErrorCode, Job, JobError, Outcome, SettledBy, Status, Step
from orchestrator.ledger import Lease, Result
from orchestrator.net.http_types import Call, File
from orchestrator.operations.cost import computed_cost
from orchestrator.providers.base import Provider
from orchestrator.providers.client import NoAnswer, NotSent
from orchestrator.providers.responses import Accepted, Ambiguous, Rejected
from orchestrator.runtime import Runtime
from orchestrator.settings.settings import ProviderSettings

#: The part of a lease beyond the call's own time limits, for the claim, the record and delays. ms.
LEASE_MARGIN_MS = 10_000


def lease_ms(runtime: Runtime) -> int:
    """Return the lease of a step with one provider call, ms."""
    settings = runtime.settings
    calls = settings.connect_timeout_seconds + settings.read_timeout_seconds
    return int(calls * 1000) + LEASE_MARGIN_MS


def submit(runtime: Runtime, job_id: str) -> None:
    """Do the submit step of a job, if the job is due and not leased.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the agenda brings the job back.
    """
    now = runtime.clock()
    lease = runtime.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=lease_ms(runtime))
    if lease is None:
        return
    if lease.job.status is Status.QUEUED:  # claimed without an attempt: the deadline has passed
        _deadline(runtime, lease)
        return
    enabled = runtime.enabled_provider(lease.job.request.provider)
    if enabled is None:
        _switched_off(runtime, lease)
        return
    _Submission(runtime, lease, *enabled).run()


@dataclass(frozen=True, slots=True)
class _Submission:
    """One attempt that this worker has leased."""

    runtime: Runtime
    lease: Lease
    provider: Provider
    settings: ProviderSettings

    def run(self) -> None:
        first_send = self.job.status is Status.SUBMITTING
        if not first_send and (self._gives_up() or not self._resendable()):
            return
        if self.runtime.clock() > self.lease.ends_at - lease_ms(self.runtime) + LEASE_MARGIN_MS:
            return  # this worker was delayed: the lease could end before the call does
        reading = self._send()
        if isinstance(reading, Accepted):
            self._accepted(reading)
        elif isinstance(reading, Rejected) and first_send:
            self._refused(reading)
        else:
            # A refusal of a repeated send proves nothing about the first one.
            self._unconfirmed(reading)

    @property
    def job(self) -> Job:
        return self.lease.job

    @property
    def _key(self) -> str:
        return f"{self.job.id}.{self.job.attempt.number}"

    def _send(self) -> Accepted | Rejected | Ambiguous:
        provider, job = self.provider, self.job
        address = CallbackAddress(provider.name, job.id, job.attempt.number)
        calls_back = self.runtime.calls_back(provider)
        url = address.url(self.runtime.settings) if calls_back else None
        call = provider.submit_call(provider.body(job.request), url, self._key)
        if job.request.upload:
            with_file = self._with_file(call)
            if with_file is None:
                message = "the file of the job is gone"
                return Rejected(JobError(ErrorCode.INVALID_REQUEST, message))
            call = with_file
        answer = self.runtime.call_provider(provider, call, self.settings)
        if isinstance(answer, NotSent):
            reason = f"{provider.title} could not be reached: {answer.reason}"
            return Rejected(JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason, retryable=True))
        if isinstance(answer, NoAnswer):
            return Ambiguous(answer.reason)
        return provider.read_submit(answer)

    def _with_file(self, call: Call) -> Call | None:
        """Return the call with the caller's file, or None when the file is gone."""
        upload, field = self.job.request.upload, self.provider.capabilities.upload_field
        content = self.runtime.ledger.upload(self.job.id)
        if content is None or upload is None or field is None:
            return None
        return replace(call, file=File(field, upload.name, upload.content_type, content))

    def _drop_file(self) -> None:
        """Delete the caller's file: the provider answered, so nothing is sent again."""
        if self.job.request.upload:
            self.runtime.ledger.drop_upload(self.job.id)

    # Answers -------------------------------------------------------------------------------

    def _accepted(self, reading: Accepted) -> None:
        if reading.outcome:
            self._done(reading, reading.outcome)
        else:
            self._running(reading)
        self._drop_file()

    def _done(self, reading: Accepted, outcome: Outcome) -> None:
        """Settle the job: the answer holds the outcome."""
        cost = (
            outcome.cost
            or reading.cost
            or computed_cost(self.provider, self.settings, self.job, outcome)
        )
        settlement = self.runtime.ledger.settle_attempt(
            self.job.id,
            self.job.attempt.number,
            reading.task_id,
            replace(outcome, cost=cost),
            now=self.runtime.clock(),
            by=SettledBy.SUBMIT,
        )
        result = self.runtime.nudge_due(self.job.id, settlement)
        self._log("attempt_done", task_id=reading.task_id, status=outcome.status, result=result)

    def _running(self, reading: Accepted) -> None:
        now = self.runtime.clock()
        calls_back = self.runtime.calls_back(self.provider)
        grace = self.runtime.settings.callback_grace_seconds if calls_back else None
        wait = first_poll_delay(
            estimate=reading.estimate, grace=grace, poll=self.settings.poll_seconds
        )
        result = self.runtime.ledger.accepted(
            self.job.id,
            self.job.attempt.number,
            reading.task_id,
            now=now,
            due_at=self._within_deadline(now, wait),
            cost=reading.cost or computed_cost(self.provider, self.settings, self.job),
        )
        self._log("attempt_accepted", task_id=reading.task_id, result=result)

    def _refused(self, reading: Rejected) -> None:
        now, error = self.runtime.clock(), reading.error
        if not error.retryable:
            outcome = Outcome.failed(error)
            result = self._settle(outcome, SettledBy.SUBMIT, now)
            self._drop_file()
            self._log("attempt_refused", code=error.code, retry=False, result=result)
            return
        wait = reading.retry_after
        if wait is None:
            wait = back_off(
                self.job.tries, FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, self.runtime.random
            )
        result = self.runtime.ledger.requeue(
            self.lease,
            now=now,
            due_at=self._within_deadline(now, wait),
            tries=self.job.tries + 1,
            event="deferred",
            detail={"code": error.code, "message": error.message},
        )
        self._log("attempt_refused", code=error.code, retry=True, result=result)

    def _unconfirmed(self, reading: Rejected | Ambiguous) -> None:
        now = self.runtime.clock()
        tries = self.job.tries if self.job.status is Status.UNCONFIRMED else 0
        ends = self._waits_until()
        if self.provider.capabilities.idempotency_seconds:
            plain = back_off(
                tries, FIRST_RESEND_SECONDS, LONGEST_RESEND_SECONDS, self.runtime.random
            )
            wait = plain if reading.retry_after is None else reading.retry_after
            due_at = min(now + int(wait * 1000), ends)
        else:
            due_at = ends
        reason = reading.reason if isinstance(reading, Ambiguous) else reading.error.message
        result = self.runtime.ledger.unconfirmed(
            self.lease, now=now, due_at=max(due_at, now), tries=tries + 1, reason=reason
        )
        self._log("attempt_unconfirmed", reason=reason, result=result)

    # Unconfirmed attempts ------------------------------------------------------------------

    def _waits_until(self) -> int:
        """Return the time (ms) until which we wait for news of this unconfirmed attempt."""
        job, sent = self.job, self.job.attempt.submitted_at
        ends = sent
        if self.provider.capabilities.idempotency_seconds:
            ends = sent + self.provider.capabilities.idempotency_seconds * 1000
        if self.runtime.calls_back(self.provider):
            ends = job.deadline_at
        if self._may_resubmit():
            ends = min(ends, sent + (job.deadline_at - sent) // 2)  # time for another attempt
        return min(ends, job.deadline_at)

    def _gives_up(self) -> bool:
        """End an attempt whose wait is over, and return whether it was ended."""
        now = self.runtime.clock()
        if now < self._waits_until():
            return False
        if self._may_resubmit() and now < self.job.deadline_at:
            result = self.runtime.ledger.requeue(
                self.lease, now=now, due_at=now, tries=0, event="resubmitted", detail={}
            )
            self._log("attempt_given_up", resubmit=True, result=result)
            return True
        message = (
            f"the request may have reached {self.provider.title}; no answer and no callback came;"
            " it may have been charged"
        )
        outcome = Outcome.failed(JobError(ErrorCode.SUBMISSION_UNCONFIRMED, message))
        result = self._settle(outcome, SettledBy.DEADLINE, now)
        self._drop_file()
        self._log("attempt_given_up", resubmit=False, result=result)
        return True

    def _may_resubmit(self) -> bool:
        """Return whether this job may make one more attempt: it allows one, and had none."""
        return self.job.request.on_unconfirmed == "resubmit" and not self.job.resubmitted

    def _resendable(self) -> bool:
        """Return whether the same attempt may be sent again. If not, keep waiting."""
        if self.provider.capabilities.idempotency_seconds:
            return True
        self._unconfirmed(Ambiguous("waiting for the callback"))
        return False

    # ---------------------------------------------------------------------------------------

    def _settle(self, outcome: Outcome, by: SettledBy, now: int) -> Result:
        return _settle(self.runtime, self.lease, outcome, by, now)

    def _within_deadline(self, now: int, wait: float) -> int:
        return min(now + int(wait * 1000), max(self.job.deadline_at, now))

    def _log(self, event: str, **details: object) -> None:
        log.get().info(
            event,
            job=self.job.id,
            provider=self.provider.name,
            attempt=self.job.attempt.number,
            **details,
        )


def _settle(runtime: Runtime, lease: Lease, outcome: Outcome, by: SettledBy, now: int) -> Result:
    return runtime.nudge_due(lease.job.id, runtime.ledger.settle(lease, outcome, by, now=now))


def _deadline(runtime: Runtime, lease: Lease) -> None:
    message = "the deadline passed before the provider accepted the job"
    error = JobError(ErrorCode.DEADLINE_EXCEEDED, message)
    result = _settle(runtime, lease, Outcome.failed(error), SettledBy.DEADLINE, runtime.clock())
    log.get().info("deadline_exceeded", job=lease.job.id, result=result)


def _switched_off(runtime: Runtime, lease: Lease) -> None:
    """Wait until the deadline, as for an outage: the provider's API key was removed."""
    now, job = runtime.clock(), lease.job
    if job.status is Status.UNCONFIRMED and now >= job.deadline_at:
        message = f"{job.request.provider} was switched off; nobody knows whether it has the task"
        outcome = Outcome.failed(JobError(ErrorCode.SUBMISSION_UNCONFIRMED, message))
        _settle(runtime, lease, outcome, SettledBy.DEADLINE, now)
        log.get().warning("provider_off", job=job.id, provider=job.request.provider)
        return
    plan = {
        "now": now,
        "due_at": min(now + int(LONGEST_RETRY_SECONDS * 1000), max(job.deadline_at, now)),
        "tries": job.tries + 1,
    }
    reason = f"{job.request.provider} is switched off, because its API key is not set"
    if job.status is Status.SUBMITTING:
        detail = {"code": ErrorCode.PROVIDER_UNAVAILABLE, "message": reason}
        runtime.ledger.requeue(lease, event="deferred", detail=detail, **plan)
    else:
        runtime.ledger.unconfirmed(lease, reason=reason, **plan)
    log.get().warning("provider_off", job=job.id, provider=job.request.provider)
