"""The ledger in plain Python: what every call must come to, without Redis, Lua or shards.

Written from the documents, not from the scripts: test_model.py holds the two against each other.
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
    JobRequest,
    Outcome,
    SettledBy,
    Status,
    Step,
)
from orchestrator.ledger import Result
from tests.ledger.kit import RECORDED
from tests.ledger.model_follow_ups import Entry, Following


class Unconfirmed(NamedTuple):
    """An attempt of unknown fate."""

    job_id: str
    attempt: int


@dataclass
class Book(Following):
    """All jobs."""

    #: Job and request of each idempotency key.
    keys: dict[str, tuple[str, JobRequest]] = field(default_factory=dict)
    #: Since when their fate is unknown.
    at_risk: dict[Unconfirmed, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        there = Counter(str(e.job.status) for e in self.entries.values() if e.look is not None)
        return {name: number for name, number in (there + self.ever).items() if number}

    # What may be asked ---------------------------------------------------------------------

    def create(
        self, job_id: str, request: JobRequest, *, now: int, deadline: int, key: str | None
    ) -> Result:
        if job_id in self.entries:
            return Result.CREATED
        if key is not None:
            known, asked = self.keys.get(key, ("", request))
            if known in self.entries:
                return Result.REPLAYED if asked == request else Result.MISMATCH
            self.keys[key] = (job_id, request)
        waiting = FollowUp(FollowUpStatus.WAITING) if request.notifies else None
        job = Job(job_id, Status.QUEUED, request, now, now, deadline, notification=waiting)
        self.entries[job_id] = Entry(job, now, events=["created"])
        self.listed.add(job_id)
        return Result.CREATED

    def claim(self, job_id: str, token: str, step: Step, *, now: int, ends: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if entry.lease == token:
            return Result.CLAIMED
        job = entry.job
        if entry.look is None or entry.look > now or STEP_OF[job.status] is not step:
            return Result.NOT_DUE
        if job.status is Status.QUEUED and now < job.deadline_at:
            attempts = (*job.attempts, Attempt(entry.newest + 1, now))
            entry.change(status=Status.SUBMITTING, attempts=attempts)
            entry.events.append("submitting")
        elif job.status is Status.SUBMITTING:
            entry.change(status=Status.UNCONFIRMED, tries=0)
            self._risk(entry, now)
        entry.lease, entry.look = token, ends
        entry.change(updated_at=now)
        return Result.CLAIMED

    def accepted(
        self, job_id: str, attempt: int, task: str, *, now: int, look: int, cost: Cost | None
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if not self._bind(entry, attempt, task):
            return self._note(entry, Result.MISMATCH)
        entry.events.append("accepted")
        entry.change(updated_at=now, cost=entry.job.cost or cost)
        if entry.look is None:
            return Result.SETTLED
        if attempt != entry.newest:
            return Result.SUPERSEDED
        if entry.job.status is not Status.RUNNING:
            self._runs(entry, look)
        return Result.RUNNING

    def observe(
        self, job_id: str, attempt: int, task: str, *, now: int, look: int | None, fallback: int
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if not self._bind(entry, attempt, task):
            return self._note(entry, Result.MISMATCH)
        entry.events.append("callback")
        entry.change(updated_at=now)
        if entry.look is None:
            return Result.DUPLICATE
        if attempt != entry.newest:
            return Result.SUPERSEDED
        if entry.job.status is not Status.RUNNING:
            self._runs(entry, fallback if look is None else look)
        elif look is not None:
            entry.lease, entry.look = None, look
        return Result.RUNNING

    def requeue(
        self, job_id: str, attempt: int, token: str, *, now: int, look: int, tries: int, event: str
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if not entry.holds(token, attempt):
            return Result.STALE
        bought = entry.job.resubmitted or event == "resubmitted"
        entry.change(status=Status.QUEUED, tries=tries, updated_at=now, resubmitted=bought)
        entry.lease, entry.look = None, look
        entry.events.append(event)
        return Result.QUEUED

    def unconfirmed(
        self, job_id: str, attempt: int, token: str, *, now: int, look: int, tries: int
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if not entry.holds(token, attempt):
            return Result.STALE
        entry.change(status=Status.UNCONFIRMED, tries=tries, updated_at=now)
        entry.lease, entry.look = None, look
        self._risk(entry, now)
        return Result.UNCONFIRMED

    def defer(self, job_id: str, token: str, *, now: int, look: int, tries: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if entry.job.status is not Status.RUNNING or entry.lease != token:
            return Result.STALE
        entry.change(tries=tries, updated_at=now)
        entry.lease, entry.look = None, look
        entry.events.append("polled")
        return Result.DEFERRED

    def settle(
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
        if entry.look is None:
            same = entry.job.status is outcome.status and entry.winner == attempt
            return self._note(entry, Result.DUPLICATE if same else Result.CONFLICT)
        if token is not None and entry.lease != token:
            return Result.STALE
        if attempt != entry.newest and outcome.status is not Status.SUCCEEDED:
            return self._note(entry, Result.SUPERSEDED)
        entry.winner = attempt
        self._end(entry, outcome, by, now)
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

    def expire(self, job_id: str) -> None:
        """The retention time of a job that is done is over."""
        del self.entries[job_id]

    def tidy(self, oldest: int) -> int:
        """Forget what is left of those; how many entries that were."""
        unlisted = {job_id for job_id in self.listed if job_id not in self.entries}
        lost = [
            who
            for who, since in self.at_risk.items()
            if since < oldest and who.job_id not in self.entries
        ]
        untold = [i for i, at in self.dead.items() if at < oldest and i not in self.entries]
        self.listed -= unlisted
        for who in lost:
            del self.at_risk[who]
        for job_id in untold:
            del self.dead[job_id]
        return len(unlisted) + len(lost) + len(untold)

    # ---------------------------------------------------------------------------------------

    def _bind(self, entry: Entry, attempt: int, task: str) -> bool:
        """The provider's task of an attempt is known: once, and for ever."""
        if not entry.sent(attempt):
            return False
        if entry.task(attempt) is None:
            attempts = list(entry.job.attempts)
            attempts[attempt - 1] = replace(attempts[attempt - 1], task_id=task)
            entry.change(attempts=tuple(attempts))
            self.at_risk.pop(Unconfirmed(entry.job.id, attempt), None)
        return entry.task(attempt) == task

    def _risk(self, entry: Entry, now: int) -> None:
        self.at_risk.setdefault(Unconfirmed(entry.job.id, entry.newest), now)
        entry.events.append("unconfirmed")

    def _note(self, entry: Entry, result: Result) -> Result:
        assert result in RECORDED
        entry.events.append(result)
        self.ever[result] += 1
        return result

    def _runs(self, entry: Entry, look: int) -> None:
        entry.change(status=Status.RUNNING, tries=0)
        entry.lease, entry.look = None, look

    def _end(self, entry: Entry, outcome: Outcome, by: SettledBy, now: int) -> None:
        entry.change(
            status=outcome.status,
            images=outcome.images,
            error=outcome.error,
            cost=outcome.cost or entry.job.cost,
            settled_at=now,
            settled_by=by,
            updated_at=now,
        )
        entry.lease = entry.look = None
        entry.events.append("settled")
        self.ever[outcome.status] += 1
        self.follow(entry, outcome, now)
