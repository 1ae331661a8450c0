"""The submit step: send an attempt to its provider, and never pay twice for it.

The ledger records `submitting` before the request is sent. Then one of three results is recorded:
the provider accepted it (running), the provider refused it (queued again, or failed), or nobody
knows (unconfirmed). An unconfirmed attempt is sent again only with the same idempotency key. For a
provider without keys, the job waits for the callback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from orchestrator import log, tracing
from orchestrator.backoff import (
    FIRST_RESEND_SECONDS,
    FIRST_RETRY_SECONDS,
    LONGEST_RESEND_SECONDS,
    LONGEST_RETRY_SECONDS,
    LOST_LEASE_SECONDS,
    asked_wait,
    back_off,
)
from orchestrator.jobs.model import ErrorCode, Job, JobError, Outcome, SettledBy, Status, Step
from orchestrator.ledger import (
    Departure,
    Lease,
    LedgerUnavailable,
    Moved,
    ProviderSign,
    Result,
    WaitReason,
)
from orchestrator.metrics.labels import CallKind
from orchestrator.net.http_types import Reply
from orchestrator.providers.base import Provider
from orchestrator.providers.client import NoAnswer, NotSent
from orchestrator.providers.responses import Accepted, Ambiguous, Rejected
from orchestrator.runtime import Runtime
from orchestrator.settings.provider_settings import ProviderSettings
from orchestrator.step_loop import in_thread
from orchestrator.steps import adapters
from orchestrator.steps.acceptance import record
from orchestrator.steps.pause import ACCOUNT_ERRORS, pause_after

#: The part of a lease beyond the call's own time limits, for the claim, the record and delays. ms.
LEASE_MARGIN_MS = 10_000
#: The longest wait of a step for the provider's rate. A sweep brings the other jobs back. ms.
MAX_RATE_WAIT_MS = 1000


def call_ms(runtime: Runtime) -> int:
    """Return the longest time of a provider call, ms."""
    settings = runtime.settings
    return int((settings.connect_timeout_seconds + settings.read_timeout_seconds) * 1000)


def lease_ms(runtime: Runtime) -> int:
    """Return the lease of a step with one provider call, ms."""
    return call_ms(runtime) + LEASE_MARGIN_MS


def submit(runtime: Runtime, job_id: str) -> None:
    """Do the submit step of a job, if the job is due and not leased.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the agenda brings the job back.
    """
    lease = _claim(runtime, job_id)
    if lease is None:
        return
    with tracing.step_span(Step.SUBMIT, job_id, lease.job.provider, lease.job.trace):
        _submit(runtime, lease)


def _submit(runtime: Runtime, lease: Lease) -> None:
    if lease.job.status is Status.QUEUED:  # claimed without an attempt: the deadline has passed
        _deadline(runtime, lease)
        return
    enabled = runtime.enabled_provider(lease.job.provider)
    if enabled is None:
        _switched_off(runtime, lease)
        return
    _Submission(runtime, lease, *enabled).run()


def _claim(runtime: Runtime, job_id: str) -> Lease | None:
    """Claim a job. Wait for its turn if the provider's rate allows it within a second."""
    now = runtime.clock()
    gives_up_at = now + MAX_RATE_WAIT_MS
    while True:
        claim = runtime.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=lease_ms(runtime))
        if isinstance(claim, Lease):
            return claim
        if isinstance(claim, Moved):
            _moved(runtime, job_id, claim)
            return None
        if claim is None or claim.reason is not WaitReason.RATE_LIMIT or not claim.until:
            return None
        if claim.until > gives_up_at:
            return None  # a sweep brings the job back
        runtime.sleep(max(claim.until - now, 1) / 1000)
        now = runtime.clock()


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
        reading, reply = self._send()
        if isinstance(reading, Accepted) and reply is not None:
            record(self.runtime, self.job, self.job.attempt.number, reply, reading)
        elif isinstance(reading, Rejected) and first_send:
            self._recorded(partial(self._refused, reading))
        elif isinstance(reading, Rejected | Ambiguous):
            # A refusal of a repeated send proves nothing about the first one.
            self._recorded(partial(self._unconfirmed, reading))

    def _recorded(self, action: Callable[[], None]) -> None:
        """Record an answer. While Redis is away, it is recorded later, if the lease still lives."""
        try:
            action()
        except LedgerUnavailable:
            name = f"{self.job.id}.{self.job.attempt.number}"
            self.runtime.retry_queue.add(name, action, until_not=LedgerUnavailable)

    @property
    def job(self) -> Job:
        return self.lease.job

    def _send(self) -> tuple[Accepted | Rejected | Ambiguous, Reply | None]:
        """Send the attempt. Return the meaning of the answer, and the answer if there is one."""
        provider = self.provider
        call = adapters.submit_call(self.runtime, provider, self.job)
        if isinstance(call, Rejected):
            return call, None
        answer = self.runtime.call_provider(
            provider,
            call,
            self.settings,
            kind=CallKind.SUBMIT,
            model=self.job.model,
            fresh_connection=not provider.capabilities.idempotency_seconds,
        )
        if isinstance(answer, NotSent):
            reason = f"{provider.title} could not be reached: {answer.reason}"
            error = JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason, retryable=True)
            return Rejected(error), None
        if isinstance(answer, NoAnswer):
            return Ambiguous(answer.reason), None
        return adapters.read_submit(provider, self.job, answer), answer

    def _drop_file(self) -> None:
        """Delete the caller's file: the provider answered, so nothing is sent again."""
        if self.job.request.upload:
            in_thread(self.runtime.ledger.uploads.drop, self.job.id)

    # Answers -------------------------------------------------------------------------------

    def _refused(self, reading: Rejected) -> None:
        now, error = self.runtime.clock(), reading.error
        final = not error.retryable and error.code not in ACCOUNT_ERRORS
        random = self.runtime.random
        plain = back_off(self.job.tries, FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, random)
        wait = asked_wait(plain, reading.retry_after, random)
        if not final:
            pause_after(self.runtime, self.provider.name, Step.SUBMIT, reading, wait)
        due_at = self._within_deadline(now, wait)
        departure = _departure(self.job, error, now, due_at, final=final)
        if final and departure is Departure.NONE:
            self._fail(error, now)
            return
        result = self.runtime.ledger.requeue(
            self.lease,
            now=now,
            due_at=due_at,
            tries=self.job.tries + 1,
            event="refused" if final else "deferred",
            detail={"code": error.code, "message": error.message},
            refusal=error,
            shows=_sign(error),
            departure=departure,
        )
        if result is Result.EXHAUSTED:
            self._fail(error, now)
            return
        if isinstance(result, Moved):
            _moved(self.runtime, self.job.id, result)
        self._log("attempt_refused", code=error.code, retry=True, result=result)

    def _fail(self, error: JobError, now: int) -> None:
        """Settle a job that its provider refused, and no fallback can get."""
        result = self._settle(Outcome.failed(error), SettledBy.SUBMIT, now)
        self._drop_file()
        self._log("attempt_refused", code=error.code, retry=False, result=result)

    def _unconfirmed(self, reading: Rejected | Ambiguous, *, sent: bool = True) -> None:
        now = self.runtime.clock()
        tries = self.job.tries if self.job.status is Status.UNCONFIRMED else 0
        ends = self._waits_until()
        if self._key_lives():
            random = self.runtime.random
            plain = back_off(tries, FIRST_RESEND_SECONDS, LONGEST_RESEND_SECONDS, random)
            wait = asked_wait(plain, reading.retry_after, random)
            due_at = min(now + int(wait * 1000), ends)
        else:
            due_at = ends
        if isinstance(reading, Ambiguous):
            reason = reading.reason
            failure = JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason) if sent else None
        else:
            reason, failure = reading.error.message, None
        result = self.runtime.ledger.unconfirmed(
            self.lease,
            now=now,
            due_at=max(due_at, now),
            tries=tries + 1,
            reason=reason,
            failure=failure,
        )
        self._log("attempt_unconfirmed", reason=reason, result=result)

    # Unconfirmed attempts ------------------------------------------------------------------

    def _waits_until(self) -> int:
        """Return the time (ms) until which this unconfirmed attempt waits for an answer."""
        job, sent = self.job, self.job.attempt.submitted_at
        ends = sent
        if job.status is Status.UNCONFIRMED and not job.tries:
            # The lease ran out. Its worker may still record the answer after an outage of Redis.
            ends += lease_ms(self.runtime) + int(LOST_LEASE_SECONDS * 1000)
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
        outcome = Outcome.failed(JobError(ErrorCode.SUBMISSION_UNCONFIRMED, self._what_is_known()))
        result = self._settle(outcome, SettledBy.DEADLINE, now)
        self._drop_file()
        self._log("attempt_given_up", resubmit=False, result=result)
        return True

    def _may_resubmit(self) -> bool:
        """Return whether this job may make one more attempt: it allows one, and had none."""
        return self.job.request.on_unconfirmed == "resubmit" and not self.job.resubmitted

    def _resendable(self) -> bool:
        """Return whether the same attempt may be sent again. If not, keep waiting."""
        if self._key_lives():
            return True
        self._unconfirmed(Ambiguous("waiting for the callback"), sent=False)
        return False

    def _key_lives(self) -> bool:
        """Return whether the provider still knows the attempt's idempotency key after a call."""
        lifetime_ms = self.provider.capabilities.idempotency_seconds * 1000
        call_ends = self.runtime.clock() + lease_ms(self.runtime)
        return call_ends < self.job.attempt.submitted_at + lifetime_ms

    def _what_is_known(self) -> str:
        """Return what is known of an attempt without a task."""
        events = in_thread(self.runtime.ledger.events, self.job.id)
        called = any(event.name == "callback" for event in events)
        callback = "a callback came, but it named no task" if called else "no callback came"
        if not called and not self.runtime.calls_back(self.provider):
            callback = "callbacks are not requested"
        title = self.provider.title
        return (
            f"the request may have reached {title} and may have been charged;"
            f" no answer named its task; {callback}"
        )

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


def _departure(job: Job, error: JobError, now: int, due_at: int, *, final: bool) -> Departure:
    """Return whether a refused job leaves its provider. For a limit it waits longer."""
    if not job.fallback_left or job.resubmitted or now >= job.deadline_at:
        return Departure.NONE
    if final:
        return Departure.MUST
    busy = _sign(error) is ProviderSign.BUSY
    waits_too_long = due_at >= (job.created_at + job.deadline_at) // 2
    return Departure.MAY if waits_too_long or not busy else Departure.NONE


def _moved(runtime: Runtime, job_id: str, move: Moved) -> None:
    runtime.nudger.nudge(Step.SUBMIT, [job_id], move.provider)
    log.get().info("job_moved", job=job_id, provider=move.provider)


def _sign(error: JobError) -> ProviderSign:
    """Return what a refusal for now shows of the provider."""
    if error.code in (ErrorCode.RATE_LIMITED, ErrorCode.TASK_LIMIT):
        return ProviderSign.BUSY
    if error.code is ErrorCode.PROVIDER_UNAVAILABLE:
        return ProviderSign.FAILED
    return ProviderSign.ANSWERED


def _settle(runtime: Runtime, lease: Lease, outcome: Outcome, by: SettledBy, now: int) -> Result:
    return runtime.nudge_due(lease.job.id, runtime.ledger.settle(lease, outcome, by, now=now))


def _deadline(runtime: Runtime, lease: Lease) -> None:
    message = "the deadline passed before the provider accepted the job"
    if lease.job.refusal:
        message += f"; reason: {lease.job.refusal.code}: {lease.job.refusal.message}"
    error = JobError(ErrorCode.DEADLINE_EXCEEDED, message)
    result = _settle(runtime, lease, Outcome.failed(error), SettledBy.DEADLINE, runtime.clock())
    log.get().info("deadline_exceeded", job=lease.job.id, result=result)


def _switched_off(runtime: Runtime, lease: Lease) -> None:
    """Wait until the deadline, as for an outage: the provider's API key was removed."""
    now, job = runtime.clock(), lease.job
    if job.status is Status.UNCONFIRMED and now >= job.deadline_at:
        message = f"{job.provider} was switched off; nobody knows whether it has the task"
        outcome = Outcome.failed(JobError(ErrorCode.SUBMISSION_UNCONFIRMED, message))
        _settle(runtime, lease, outcome, SettledBy.DEADLINE, now)
        log.get().warning("provider_off", job=job.id, provider=job.provider)
        return
    due_at = min(now + int(LONGEST_RETRY_SECONDS * 1000), max(job.deadline_at, now))
    tries = job.tries + 1
    reason = f"{job.provider} is switched off, because its API key is not set"
    if job.status is Status.SUBMITTING:
        error = JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason, retryable=True)
        result = runtime.ledger.requeue(
            lease,
            now=now,
            due_at=due_at,
            tries=tries,
            event="deferred",
            detail={"code": error.code, "message": reason},
            refusal=error,
            departure=_departure(job, error, now, due_at, final=False),
        )
        if isinstance(result, Moved):
            _moved(runtime, job.id, result)
    else:
        runtime.ledger.unconfirmed(lease, now=now, due_at=due_at, tries=tries, reason=reason)
    log.get().warning("provider_off", job=job.id, provider=job.provider)
