"""The transitions of a job from its creation to its outcome, with one round trip each.

A transition is one Lua script, so it is atomic. It can be repeated: a caller that does not know
whether its call arrived makes the call again.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

from orchestrator.jobs.model import (
    Cost,
    ErrorCode,
    Job,
    JobError,
    Outcome,
    PendingFailure,
    SettledBy,
    Status,
    Step,
)
from orchestrator.ledger import codec, identifiers, keys
from orchestrator.ledger.admission import (
    Admission,
    Departure,
    Moved,
    ProviderSign,
    Waiting,
    WaitReason,
)
from orchestrator.ledger.durations import AS_PLANNED, FirstPoll, is_reported
from orchestrator.ledger.refusals import UnreadableJob
from orchestrator.ledger.results import Lease, Result, Settlement
from orchestrator.ledger.script import Script, load
from orchestrator.ledger.script_runner import ScriptRunner
from orchestrator.ledger.task_owners import TaskOwners
from orchestrator.step_loop import in_thread

#: A job that this version cannot read is claimed again after this time. ms.
UNREADABLE_WAIT_MS = 60_000


class JobTransitions:
    """The transitions of the jobs of one installation.

    The caller gives all times, in ms since the epoch. A transition that makes other steps due
    returns them, and the caller nudges.

    Args:
        scripts: runs the scripts.
        admission: knows the limits of providers in each shard.
        task_owners: knows the provider tasks of all shards.
        shards: the number of shards.
        retention_ms: how long a job is kept after its last follow-up.
        archives: whether images are archived.
    """

    def __init__(
        self,
        scripts: ScriptRunner,
        admission: Admission,
        task_owners: TaskOwners,
        shards: int,
        retention_ms: int,
        *,
        archives: bool,
    ) -> None:
        self._scripts = scripts
        self.admission = admission
        self._task_owners = task_owners
        self.shards = shards
        self._retention_ms = retention_ms
        self._archives = archives
        self._claim, self._claim_poll = load("claim"), load("claim_poll")
        self._accepted, self._requeue = load("accepted"), load("requeue")
        self._unconfirmed, self._defer = load("unconfirmed"), load("defer")
        self._observe, self._settle = load("observe"), load("settle")
        self._cancel = load("cancel")
        self._retried = load("retried")

    def claim(
        self, job_id: str, step: Step, *, now: int, lease_ms: int, random: float = 0.0
    ) -> Lease | Waiting | Moved | None:
        """Take the lease on a due job. Return None if it is not due for the step, or leased.

        A queued job of another tenant is taken instead if that tenant had fewer turns.

        Args:
            job_id: the job.
            step: SUBMIT or POLL.
            now: ms.
            lease_ms: the duration of the lease.
            random: from 0 to 1. It spreads the polls of a paused provider.

        Returns:
            The lease, Waiting (the provider must not get a submission now), Moved (it left the
            provider for a fallback), or None.
        """
        token, ends_at = secrets.token_urlsafe(9), now + lease_ms
        is_poll = step is Step.POLL
        last = f"{random:.4f}" if is_poll else self.admission.limits[identifiers.shard_of(job_id)]
        script = self._claim_poll if is_poll else self._claim
        answer: Any = self._scripts.run(script, keys.of(job_id), [now, token, ends_at, last])
        match answer:
            case ["claimed", taken_id, fields]:
                return Lease(self._decode(taken_id, fields, token, now), token, ends_at)
            case ["waiting", reason, until]:
                return Waiting(WaitReason(reason), int(until) if until else None)
            case ["moved", provider]:
                return Moved(provider)
            case _:
                return None

    def extend(self, lease: Lease, *, now: int, lease_ms: int) -> bool:
        """Have the lease on a poll end `lease_ms` after `now` (ms). Return False if it is lost."""
        args: list[str | int] = [now, lease.token, now + lease_ms, "0"]
        return self._scripts.run(self._claim_poll, keys.of(lease.job.id), args)[0] == "claimed"

    def _decode(self, job_id: str, fields: list[str], token: str, now: int) -> Job:
        """Return a claimed job. The claim of a job that cannot be read is given back.

        Raises:
            UnreadableJob: nothing was sent, and the attempt is not unconfirmed.
        """
        named = codec.pairs(fields)
        try:
            return codec.read_job(job_id, named)
        except UnreadableJob:
            if named.get("status") == Status.SUBMITTING:
                due_at, tries = now + UNREADABLE_WAIT_MS, named.get("tries", "0")
                args: list[str | int] = [now, named["attempt"], token, due_at, tries, "deferred"]
                args += ["{}", "", "", Departure.NONE]
                args += [self.admission.limits[identifiers.shard_of(job_id)]]
                self._scripts.run(self._requeue, keys.of(job_id), args)
            raise

    def accepted(
        self,
        job_id: str,
        attempt: int,
        task_id: str,
        *,
        now: int,
        due_at: int,
        first_poll: FirstPoll = AS_PLANNED,
        cost: Cost | None = None,
        pending_failure: PendingFailure | None = None,
    ) -> Result:
        """Record that the provider accepted the attempt.

        It is polled first at `due_at`, unless `first_poll` finds a learned duration.
        `pending_failure` is the failure that the answer points to. A known one stays.

        Returns:
            RUNNING, SETTLED, SUPERSEDED, MISMATCH or MISSING.
        """
        detail = codec.dumps({"attempt": attempt, "task_id": task_id})
        args = [now, attempt, task_id, due_at, codec.dumps(codec.given(cost)), detail]
        args += [first_poll.wait, first_poll.earliest, codec.dumps(pending_failure)]
        return self._bind(self._accepted, job_id, task_id, args).result

    def requeue(
        self,
        lease: Lease,
        *,
        now: int,
        due_at: int,
        tries: int,
        event: str,
        detail: dict[str, Any],
        refusal: JobError | None = None,
        shows: ProviderSign = ProviderSign.NOTHING,
        departure: Departure = Departure.NONE,
    ) -> Result | Moved:
        """End the attempt and plan another.

        `refusal` says why the provider did not take it, and `shows` what that tells of it.

        Returns:
            QUEUED, Moved (it is due now at a fallback), EXHAUSTED (it must leave, and no fallback
            can get it; the lease stays), STALE or MISSING.
        """
        number = lease.job.attempt.number
        text = codec.dumps({"attempt": number, **detail})
        args: list[str | int] = [now, number, lease.token, due_at, tries, event, text]
        args += [codec.dumps(refusal), shows]
        args += [departure, self.admission.limits[identifiers.shard_of(lease.job.id)]]
        result, *to = self._scripts.run(self._requeue, keys.of(lease.job.id), args)
        return Moved(to[0]) if to else Result(result)

    def unconfirmed(
        self,
        lease: Lease,
        *,
        now: int,
        due_at: int,
        tries: int,
        reason: str,
        failure: JobError | None = None,
    ) -> Result:
        """Record that the attempt may have arrived. Return UNCONFIRMED, STALE or MISSING.

        `failure` is set when the provider failed, and would fail another job, too.
        """
        number = lease.job.attempt.number
        detail = codec.dumps({"attempt": number, "reason": reason})
        args = [now, number, lease.token, due_at, tries, detail, codec.dumps(failure)]
        return self._run(self._unconfirmed, lease.job.id, args).result

    def defer(
        self,
        lease: Lease,
        *,
        now: int,
        due_at: int,
        tries: int,
        detail: dict[str, Any],
        pending_failure: PendingFailure | None = None,
        running: bool = False,
    ) -> Result:
        """Record a poll without an outcome. Return DEFERRED, STALE or MISSING.

        A failure that was pending before is replaced, also by None. `running`: the task runs.
        """
        seen = "1" if running else ""
        texts = [codec.dumps(detail), codec.dumps(pending_failure), seen]
        args = [now, lease.token, due_at, tries, *texts]
        return self._run(self._defer, lease.job.id, args).result

    def observe(
        self,
        job_id: str,
        attempt: int,
        task_id: str,
        *,
        now: int,
        due_at: int | None,
        fallback: int,
        pending_failure: PendingFailure | None = None,
        may_have_images: bool = False,
    ) -> Settlement:
        """Record that a callback showed the provider task. The job is not settled.

        Args:
            job_id: the job.
            attempt: the number of the attempt in the callback.
            task_id: the provider task in the callback; empty if the body could not be read.
            now: ms.
            due_at: when the job is due again (ms). None leaves it unchanged.
            fallback: when the job is due (ms) if it was not running before and `due_at` is None.
            pending_failure: the failure that the callback points to. A known one stays.
            may_have_images: whether the task may have made images.

        Returns:
            RUNNING, RECORDED (the task is still unknown), DUPLICATE, SUPERSEDED, MISMATCH, MISSING
            or UNPROVEN (no poll queries this task any more; the confirm step does it).
        """
        detail = codec.dumps({"attempt": attempt, "task_id": task_id or None})
        due = "" if due_at is None else due_at
        rest = [detail, codec.dumps(pending_failure), "1" if may_have_images else ""]
        args = [now, attempt, task_id, due, fallback, *rest]
        return self._bind(self._observe, job_id, task_id, args)

    def settle_attempt(
        self,
        job_id: str,
        attempt: int,
        task_id: str,
        outcome: Outcome,
        *,
        now: int,
        by: SettledBy = SettledBy.CALLBACK,
    ) -> Settlement:
        """Settle a job with an outcome from a verified callback or from the answer to a submit.

        Returns:
            SETTLED, LATE, DUPLICATE, CONFLICT, SUPERSEDED, MISMATCH, MISSING or UNPROVEN (a poll
            must decide, because a callback contradicts an earlier success).
        """
        return self._settle_with(
            job_id, attempt, outcome, token="", task_id=task_id, by=by, now=now
        )

    def settle(self, lease: Lease, outcome: Outcome, by: SettledBy, *, now: int) -> Settlement:
        """Settle a job with the outcome of the worker that holds its lease.

        Returns:
            SETTLED, LATE, DUPLICATE, CONFLICT, STALE or MISSING.
        """
        attempts = lease.job.attempts
        number, task_id = (attempts[-1].number, attempts[-1].task_id or "") if attempts else (0, "")
        return self._settle_with(
            lease.job.id, number, outcome, token=lease.token, task_id=task_id, by=by, now=now
        )

    def cancel(self, job_id: str, *, now: int) -> Settlement:
        """Cancel a queued job. Return CANCELLED, DUPLICATE, IN_FLIGHT, TERMINAL or MISSING."""
        if not identifiers.is_job_id(job_id):
            return Settlement(Result.MISSING)
        error = codec.given(JobError(ErrorCode.CANCELLED, "cancelled by the caller"))
        return self._run(self._cancel, job_id, [now, codec.dumps(error), self._retention_ms])

    def retried(self, job_id: str, new_id: str, *, now: int) -> Result:
        """Record that a new job retries a job. Return RECORDED, DUPLICATE, OPEN or MISSING."""
        return self._run(self._retried, job_id, [now, new_id]).result

    def _settle_with(
        self,
        job_id: str,
        attempt: int,
        outcome: Outcome,
        *,
        token: str,
        task_id: str,
        by: SettledBy,
        now: int,
    ) -> Settlement:
        code = {"code": outcome.error.code} if outcome.error else {}
        detail = {"status": outcome.status, "by": by, "attempt": attempt, **code}
        images = codec.images_text(job_id, outcome.images)
        values = [images, *(codec.dumps(codec.given(v)) for v in (outcome.error, outcome.cost))]
        args = [now, attempt, token, task_id, outcome.status, by, *values]
        reported = "1" if is_reported(outcome, by) else ""
        expires = outcome.expires_at(now) if self._archives else ""
        rest = [self._retention_ms, codec.dumps(detail), expires, reported]
        return self._bind(self._settle, job_id, task_id, [*args, *rest])

    def _bind(self, script: Script, job_id: str, task_id: str, args: list[Any]) -> Settlement:
        """Run a script that may bind a provider task to the job."""
        run = partial(self._run, script, job_id, args)
        if self.shards == 1 or not task_id:
            return run()
        # Its three round trips would hold up every other step of a step loop.
        return in_thread(self._task_owners.bind, job_id, int(args[1]), task_id, run)

    def _run(self, script: Script, job_id: str, args: list[Any]) -> Settlement:
        return Settlement.from_answer(self._scripts.run(script, keys.of(job_id), args))
