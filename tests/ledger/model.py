"""A model of the ledger in plain Python: the result of every call, without Redis, Lua or shards.

It is written from the documents, not from the scripts. test_model.py compares it with the ledger.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from orchestrator.jobs.model import (
    STEP_OF,
    Attempt,
    Cost,
    ErrorCode,
    FollowUp,
    FollowUpStatus,
    Job,
    JobError,
    Move,
    Outcome,
    PendingFailure,
    SettledBy,
    Status,
    Step,
)
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Result
from tests.ledger.kit import RECORDED, REFUSAL
from tests.ledger.model_follow_ups import FollowUpBook, JobEntry


class ModelAttempt(NamedTuple):
    """An attempt that may have reached its provider without a known task."""

    job_id: str
    attempt: int


@dataclass
class Book(FollowUpBook):
    """The model of the whole ledger."""

    #: The job and the request of each idempotency key.
    keys: dict[str, tuple[str, JobRequest]] = field(default_factory=dict)
    #: The unconfirmed attempts, and since when (ms).
    at_risk: dict[ModelAttempt, int] = field(default_factory=dict)

    #: The ended jobs of each batch by status.
    ended_in: dict[str, Counter[str]] = field(default_factory=dict)

    def batches(self) -> dict[str, dict[str, int]]:
        """Return the jobs of each batch by status."""
        counts = {batch: Counter(ended) for batch, ended in self.ended_in.items()}
        for entry in self.entries.values():
            if entry.job.batch and entry.due_at is not None:
                counts.setdefault(entry.job.batch, Counter())[str(entry.job.status)] += 1
        return {batch: dict(numbers) for batch, numbers in counts.items()}

    def counts(self) -> dict[str, int]:
        open_jobs = (e for e in self.entries.values() if e.due_at is not None)
        counts = Counter(str(e.job.status) for e in open_jobs) + self.ever
        return {name: number for name, number in counts.items() if number}

    # Transitions ---------------------------------------------------------------------------

    def create(
        self,
        job_id: str,
        request: JobRequest,
        *,
        now: int,
        deadline: int,
        key: str | None,
        batch: str | None = None,
    ) -> Result:
        if job_id in self.entries:
            return Result.CREATED
        if key is not None:
            known, first_request = self.keys.get(key, ("", request))
            if known and known not in self.entries:
                return Result.GONE
            if known:
                return Result.REPLAYED if first_request == request else Result.MISMATCH
            self.keys[key] = (job_id, request)
        waiting = FollowUp(FollowUpStatus.WAITING) if request.notifies else None
        left = tuple(target.provider for target in request.fallback)
        job = Job(
            job_id,
            Status.QUEUED,
            request,
            now,
            now,
            deadline,
            batch=batch,
            notification=waiting,
            fallback_left=left,
        )
        self.entries[job_id] = JobEntry(job, now, request.provider, events=["created"])
        self.listed.add(job_id)
        return Result.CREATED

    def claim(self, job_id: str, token: str, step: Step, *, now: int, ends: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if entry.lease == token:
            return Result.CLAIMED
        job = entry.job
        if entry.due_at is None or entry.due_at > now or STEP_OF[job.status] is not step:
            return Result.NOT_DUE
        if job.status is Status.QUEUED and now < job.deadline_at:
            provider = entry.provider if job.moves else None
            attempts = (*job.attempts, Attempt(entry.newest + 1, now, provider=provider))
            entry.change(status=Status.SUBMITTING, attempts=attempts)
            entry.events.append("submitting")
        elif job.status is Status.SUBMITTING:
            entry.change(status=Status.UNCONFIRMED, tries=0)
            self._risk(entry, now)
        entry.lease, entry.due_at = token, ends
        entry.change(updated_at=now)
        return Result.CLAIMED

    def accepted(
        self, job_id: str, attempt: int, task: str, *, now: int, due_at: int, cost: Cost | None
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if not self._bind(entry, attempt, task):
            return self._note(entry, Result.MISMATCH)
        entry.events.append("accepted")
        entry.change(updated_at=now, cost=entry.job.cost or cost)
        if entry.due_at is None:
            return Result.SETTLED
        if attempt != entry.newest:
            return Result.SUPERSEDED
        if entry.job.status is not Status.RUNNING:
            self._return(entry, attempt, now)
            self._runs(entry, due_at)
        return Result.RUNNING

    def observe(
        self,
        job_id: str,
        attempt: int,
        task: str,
        *,
        now: int,
        due_at: int | None,
        fallback: int,
        failure: PendingFailure | None = None,
        images: bool = False,
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if not self._bind(entry, attempt, task):
            return self._note(entry, Result.MISMATCH)
        entry.events.append("callback")
        entry.change(updated_at=now)
        if entry.due_at is None or attempt != entry.newest:
            won = entry.job.status is Status.SUCCEEDED and entry.winner == attempt
            if images and attempt not in entry.late and not won:
                self.follow_confirm(entry, attempt, now)
                return Result.UNPROVEN
            return Result.DUPLICATE if entry.due_at is None else Result.SUPERSEDED
        entry.change(pending_failure=entry.job.pending_failure or failure)
        if entry.job.status is not Status.RUNNING:
            self._return(entry, attempt, now)
            self._runs(entry, fallback if due_at is None else due_at)
        elif due_at is not None:
            entry.lease, entry.due_at = None, due_at
        return Result.RUNNING

    def requeue(
        self,
        job_id: str,
        attempt: int,
        token: str,
        *,
        now: int,
        due_at: int,
        tries: int,
        event: str,
        must_move: bool = False,
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if not entry.holds(token, attempt):
            return Result.STALE
        is_unknown = event == "resubmitted" or entry.job.status is Status.UNCONFIRMED
        if must_move and (is_unknown or not entry.job.fallback_left):
            return Result.EXHAUSTED
        if is_unknown:
            entry.change(fallback_left=())
        resubmitted = attempt if event == "resubmitted" else entry.job.resubmitted
        entry.change(status=Status.QUEUED, tries=tries, updated_at=now, resubmitted=resubmitted)
        entry.lease, entry.due_at = None, due_at
        entry.events.append(event)
        if must_move:
            entry.change(refusal=REFUSAL)
            to, *left = entry.job.fallback_left
            self._move(entry, to, REFUSAL.code, now)
            entry.change(fallback_left=tuple(left))
            entry.due_at = now
            return Result.MOVED
        return Result.QUEUED

    def unconfirmed(
        self, job_id: str, attempt: int, token: str, *, now: int, due_at: int, tries: int
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if not entry.holds(token, attempt):
            return Result.STALE
        entry.change(status=Status.UNCONFIRMED, tries=tries, updated_at=now)
        entry.lease, entry.due_at = None, due_at
        self._risk(entry, now)
        return Result.UNCONFIRMED

    def defer(
        self,
        job_id: str,
        token: str,
        *,
        now: int,
        due_at: int,
        tries: int,
        failure: PendingFailure | None = None,
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if entry.job.status is not Status.RUNNING or entry.lease != token:
            return Result.STALE
        entry.change(tries=tries, updated_at=now, pending_failure=failure)
        entry.lease, entry.due_at = None, due_at
        entry.events.append("polled")
        return Result.DEFERRED

    def settle(  # noqa: PLR0911  # one for each result
        self,
        job_id: str,
        attempt: int,
        task: str | None,
        outcome: Outcome,
        *,
        now: int,
        by: SettledBy,
        token: str | None = None,
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if task is not None and not self._bind(entry, attempt, task):
            return self._note(entry, Result.MISMATCH)
        if entry.due_at is None:
            same = entry.job.status is outcome.status and entry.winner == attempt
            if outcome.status is Status.SUCCEEDED and not same:
                if attempt not in entry.late:
                    return self._late(entry, attempt, outcome, now)
                same = True
            return self._note(entry, Result.DUPLICATE if same else Result.CONFLICT)
        if token is not None and entry.lease != token:
            return Result.STALE
        if attempt != entry.newest and outcome.status is not Status.SUCCEEDED:
            return self._note(entry, Result.SUPERSEDED)
        without_images = outcome.status is not Status.SUCCEEDED
        if by is SettledBy.CALLBACK and without_images and entry.job.pending_failure:
            entry.events.append("callback")
            entry.change(updated_at=now)
            entry.lease, entry.due_at = None, now
            return Result.UNPROVEN
        self._return(entry, attempt, now)
        entry.winner = attempt
        self._end(entry, outcome, by, now)
        entry.change(moved_to=entry.moved_to(attempt))
        return Result.SETTLED

    def cancel(self, job_id: str, now: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        status = entry.job.status
        if status is Status.CANCELLED:
            return Result.DUPLICATE
        if status is not Status.QUEUED:
            return Result.TERMINAL if status.terminal else Result.IN_FLIGHT
        error = JobError(ErrorCode.CANCELLED, "cancelled by the caller")
        self._end(entry, Outcome(Status.CANCELLED, error=error), SettledBy.CANCEL, now)
        return Result.CANCELLED

    def poll_now(self, job_id: str, now: int, interval: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if entry.job.status is not Status.RUNNING:
            return Result.TERMINAL if entry.due_at is None else Result.OPEN
        if entry.poll_asked not in (None, now) and now - entry.poll_asked < interval:
            return Result.LIMITED
        if entry.poll_asked != now:
            entry.poll_asked = now
            entry.events.append("poll_asked")
            entry.due_at = entry.due_at if entry.lease else now
        return Result.RUNNING

    def expire(self, job_id: str) -> None:
        """Delete a job at the end of its retention time."""
        del self.entries[job_id]

    def tidy(self, oldest: int) -> int:
        """Remove the entries of expired jobs. Return their number."""
        unlisted = {job_id for job_id in self.listed if job_id not in self.entries}
        unconfirmed = [
            attempt
            for attempt, since in self.at_risk.items()
            if since < oldest and attempt.job_id not in self.entries
        ]
        dead = [i for i, at in self.dead.items() if at < oldest and i not in self.entries]
        self.listed -= unlisted
        for attempt in unconfirmed:
            del self.at_risk[attempt]
        for job_id in dead:
            del self.dead[job_id]
        return len(unlisted) + len(unconfirmed) + len(dead)

    # Parts of transitions ------------------------------------------------------------------

    def _bind(self, entry: JobEntry, attempt: int, task: str) -> bool:
        """Bind a provider task to an attempt. Return False if it cannot be bound."""
        if not entry.sent(attempt):
            return False
        if entry.task(attempt) is None:
            attempts = list(entry.job.attempts)
            attempts[attempt - 1] = replace(attempts[attempt - 1], task_id=task)
            entry.change(attempts=tuple(attempts))
            self.at_risk.pop(ModelAttempt(entry.job.id, attempt), None)
        return entry.task(attempt) == task

    def _risk(self, entry: JobEntry, now: int) -> None:
        self.at_risk.setdefault(ModelAttempt(entry.job.id, entry.newest), now)
        entry.events.append("unconfirmed")

    def _note(self, entry: JobEntry, result: Result) -> Result:
        assert result in RECORDED
        entry.events.append(result)
        self.ever[result] += 1
        return result

    def _late(self, entry: JobEntry, attempt: int, outcome: Outcome, now: int) -> Result:
        """Keep the images of a success that came after the outcome."""
        entry.late.add(attempt)
        late_images = (*entry.job.late_images, *outcome.images)
        entry.change(late_images=late_images, late_results=len(entry.late), updated_at=now)
        entry.events.append("late_result")
        self.ever["late_result"] += 1
        self.follow_late(entry, outcome, now)
        return Result.LATE

    def _move(self, entry: JobEntry, to: str, reason: str, now: int) -> None:
        """Move a queued job to another provider. Its attempts keep theirs."""
        moves = (*entry.job.moves, Move(now, entry.provider, to, reason))
        attempts = (replace(a, provider=a.provider or entry.provider) for a in entry.job.attempts)
        entry.change(moves=moves, attempts=tuple(attempts), tries=0, updated_at=now)
        entry.provider = to
        entry.change(moved_to=entry.moved_to(0))
        entry.events.append("moved")

    def _return(self, entry: JobEntry, attempt: int, now: int) -> None:
        """Move a queued job back to the provider of an attempt that it refused, but accepted."""
        to = entry.job.provider_of(attempt)
        if entry.job.status is Status.QUEUED and to != entry.provider:
            self._move(entry, to, "accepted", now)

    def _runs(self, entry: JobEntry, due_at: int) -> None:
        entry.change(status=Status.RUNNING, tries=0)
        entry.lease, entry.due_at = None, due_at

    def _end(self, entry: JobEntry, outcome: Outcome, by: SettledBy, now: int) -> None:
        entry.change(
            status=outcome.status,
            images=outcome.images,
            error=outcome.error,
            cost=outcome.cost or entry.job.cost,
            settled_at=now,
            settled_by=by,
            updated_at=now,
        )
        entry.lease = entry.due_at = None
        entry.events.append("settled")
        self.ever[outcome.status] += 1
        if entry.job.batch:
            self.ended_in.setdefault(entry.job.batch, Counter())[str(outcome.status)] += 1
        self.follow(entry, outcome, now)
