"""The jobs of the model, and their follow-ups: archives and notifications."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from orchestrator.jobs.model import (
    FOLLOW_UPS,
    FollowUp,
    FollowUpStatus,
    Image,
    Job,
    Outcome,
    Status,
    Step,
)
from orchestrator.ledger import Result

#: The field of a job for each follow-up.
FIELDS = {
    Step.ARCHIVE: "archive",
    Step.NOTIFY: "notification",
    Step.CONFIRM: "confirmation",
}


@dataclass
class PendingFollowUp:
    """A pending follow-up: when it is due (ms), and the token of its lease."""

    due_at: int
    lease: str | None = None


@dataclass
class JobEntry:
    """A job, and the entries of the ledger for it."""

    job: Job
    #: Its score in the agenda. None when it is terminal.
    due_at: int | None
    #: Where the job is now.
    provider: str
    lease: str | None = None
    #: When somebody asked for a poll last (ms).
    poll_asked: int | None = None
    winner: int | None = None
    #: The attempts with a late result.
    late: set[int] = field(default_factory=set)
    #: The notification of a late result is due after that of the outcome.
    owes_late_result: bool = False
    events: list[str] = field(default_factory=list)
    #: The follow-ups that are pending.
    follows: dict[Step, PendingFollowUp] = field(default_factory=dict)

    def change(self, **fields: object) -> None:
        self.job = replace(self.job, **fields)  # type: ignore[arg-type]

    def moved_to(self, winner: int) -> str | None:
        """Return the provider that callers see, unless it is the one of the request."""
        sent = (a.provider for a in self.job.attempts if a.number == winner)
        provider = next(sent, None) or self.provider
        return None if provider == self.job.request.provider else provider

    def set_follow_up(self, step: Step, state: FollowUp) -> None:
        self.change(**{FIELDS[step]: state})

    @property
    def expires(self) -> bool:
        return self.due_at is None and not self.follows

    @property
    def newest(self) -> int:
        return len(self.job.attempts)

    def task(self, attempt: int) -> str | None:
        return self.job.attempts[attempt - 1].task_id if self.sent(attempt) else None

    def sent(self, attempt: int) -> bool:
        return 1 <= attempt <= self.newest

    def holds(self, token: str, attempt: int) -> bool:
        """Return True if a token may record the result of a submission."""
        submitted = self.job.status in (Status.SUBMITTING, Status.UNCONFIRMED)
        return submitted and self.lease == token and self.newest == attempt


@dataclass
class FollowUpBook:
    """The part of the model for follow-ups, and for deleting jobs."""

    entries: dict[str, JobEntry] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    #: The jobs with a pending archive, and when their first link expires (ms).
    expiring: dict[str, int] = field(default_factory=dict)
    #: The jobs with a failed notification, and when it failed (ms).
    dead: dict[str, int] = field(default_factory=dict)
    #: The counts of terminal statuses, contradictions and ended follow-ups. They never decrease.
    ever: Counter[str] = field(default_factory=Counter)
    #: The steps that a settlement or a late result made due, with their job.
    due_steps: Counter[tuple[str, tuple[Step, ...]]] = field(default_factory=Counter)

    def follow(self, entry: JobEntry, outcome: Outcome, now: int) -> None:
        """Make the follow-ups of an outcome due."""
        due = []
        if outcome.status is Status.SUCCEEDED:
            due.append(Step.ARCHIVE)
            self.expiring[entry.job.id] = outcome.expires_at(now)
        if entry.job.notification:
            due.append(Step.NOTIFY)
        for step in due:
            self._begin(entry, step, now)
        if due:
            self.due_steps[entry.job.id, tuple(due)] += 1

    def follow_late(self, entry: JobEntry, outcome: Outcome, now: int) -> None:
        """Make the archive of a late result due, and its notification when it is its turn."""
        archive = entry.job.archive or FollowUp(FollowUpStatus.WAITING)
        entry.set_follow_up(Step.ARCHIVE, replace(archive, tries=0))
        self._begin(entry, Step.ARCHIVE, now)
        self.expiring[entry.job.id] = outcome.expires_at(now)
        status = entry.job.notification.status if entry.job.notification else None
        due = [Step.ARCHIVE]
        if status is FollowUpStatus.PENDING:
            entry.owes_late_result = True
            entry.change(notifies_late_result=False)
        elif status not in (None, FollowUpStatus.GONE):
            self._notify_late_result(entry, now)
            due.append(Step.NOTIFY)
        self.due_steps[entry.job.id, tuple(due)] += 1

    def follow_confirm(self, entry: JobEntry, attempt: int, now: int) -> None:
        """Make the query of a task due."""
        attempts = dict.fromkeys((*entry.job.confirms_attempts, attempt))
        state = entry.job.confirmation or FollowUp(FollowUpStatus.WAITING)
        entry.set_follow_up(Step.CONFIRM, replace(state, tries=0))
        entry.change(confirms_attempts=tuple(attempts))
        self._begin(entry, Step.CONFIRM, now)

    def _notify_late_result(self, entry: JobEntry, now: int) -> None:
        assert entry.job.notification
        entry.owes_late_result = False
        entry.change(notifies_late_result=True)
        entry.set_follow_up(Step.NOTIFY, replace(entry.job.notification, tries=0))
        self._begin(entry, Step.NOTIFY, now)
        self.dead.pop(entry.job.id, None)

    def follow_claim(self, job_id: str, step: Step, token: str, *, now: int, ends: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        pending = entry.follows.get(step)
        if pending and pending.lease == token:
            return Result.CLAIMED
        if pending is None or pending.due_at > now:
            return Result.NOT_DUE
        pending.lease, pending.due_at = token, ends
        return Result.CLAIMED

    def follow_later(
        self,
        job_id: str,
        step: Step,
        token: str,
        *,
        now: int,
        due_at: int,
        tries: int | None,
        error: str,
        images: tuple[Image, ...],
    ) -> Result:
        held = self._held(job_id, step, token)
        if isinstance(held, Result):
            return held
        entry, state = held
        if tries is not None:
            state = replace(state, tries=tries, tried_at=now, error=error or None)
            entry.events.append(f"{step}_failed")
        entry.set_follow_up(step, replace(state, due_at=due_at))
        self._store(entry, images)
        entry.follows[step] = PendingFollowUp(due_at)
        return Result.RECORDED

    def follow_done(
        self,
        job_id: str,
        step: Step,
        token: str,
        end: FollowUpStatus,
        *,
        now: int,
        tries: int,
        error: str,
        images: tuple[Image, ...],
    ) -> Result:
        held = self._held(job_id, step, token)
        if isinstance(held, Result):
            return held
        entry, state = held
        entry.set_follow_up(step, FollowUp(end, state.since, tries, now, None, error or None))
        self._store(entry, images)
        entry.events.append(f"{step}_{end}")
        self.ever[f"{step}_{end}"] += 1
        del entry.follows[step]
        if step is Step.ARCHIVE:
            del self.expiring[job_id]
            return Result.RECORDED
        if step is Step.CONFIRM:
            entry.change(confirms_attempts=())
            return Result.RECORDED
        if entry.owes_late_result and end is not FollowUpStatus.GONE:
            self._notify_late_result(entry, now)
            return Result.RECORDED
        entry.owes_late_result = False
        entry.change(notifies_late_result=False)
        if end is FollowUpStatus.DEAD:
            self.dead[job_id] = now
        return Result.RECORDED

    def notify_again(self, job_id: str, now: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if entry.due_at is not None:
            return Result.OPEN
        if entry.job.notification is None:
            return Result.SILENT
        pending = entry.follows.get(Step.NOTIFY)
        if pending is None or pending.lease is None or pending.due_at <= now:
            entry.set_follow_up(Step.NOTIFY, replace(entry.job.notification, tries=0))
            self._begin(entry, Step.NOTIFY, now)
            entry.events.append("notify_again")
            self.dead.pop(job_id, None)
        return Result.RECORDED

    def archive_again(
        self, job_id: str, images: tuple[Image, ...], *, now: int, expires: int
    ) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if pending := entry.follows.get(Step.ARCHIVE):
            if pending.lease is None and pending.due_at > now and entry.job.archive:
                pending.due_at = now
                entry.set_follow_up(Step.ARCHIVE, replace(entry.job.archive, due_at=now))
            return Result.RECORDED
        if entry.due_at is not None:
            return Result.OPEN
        archive = entry.job.archive
        if archive is None or archive.status is not FollowUpStatus.DEAD:
            return Result.SILENT
        entry.set_follow_up(Step.ARCHIVE, replace(archive, tries=0))
        self._begin(entry, Step.ARCHIVE, now)
        self._store(entry, images)
        self.expiring[job_id] = expires
        entry.events.append("archive_again")
        return Result.RECORDED

    def forget(self, job_id: str, before: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            self.listed.discard(job_id)
            return Result.MISSING
        if not entry.expires or (entry.job.settled_at or 0) >= before:
            return Result.KEPT
        del self.entries[job_id]
        self.listed.discard(job_id)
        self.dead.pop(job_id, None)
        return Result.FORGOTTEN

    def due(self, step: Step, now: int) -> dict[str, int]:
        """Return the jobs with a due follow-up, and since when it is due (ms)."""
        due_times = {
            i: e.follows[step].due_at for i, e in self.entries.items() if step in e.follows
        }
        return {job_id: due_at for job_id, due_at in due_times.items() if due_at <= now}

    def overdue(self, before: int) -> set[tuple[str, Step]]:
        """Return the follow-ups that were due before a time (ms)."""
        return {(i, step) for step in FOLLOW_UPS for i in self.due(step, before - 1)}

    def _store(self, entry: JobEntry, images: tuple[Image, ...]) -> None:
        if images:
            number = len(entry.job.images)
            entry.change(images=images[:number], late_images=images[number:])

    def _begin(self, entry: JobEntry, step: Step, now: int) -> None:
        state = entry.job.follow_up(step) or FollowUp(FollowUpStatus.WAITING)
        state = replace(state, status=FollowUpStatus.PENDING, since=now, due_at=now)
        entry.set_follow_up(step, state)
        entry.follows[step] = PendingFollowUp(now)

    def _held(self, job_id: str, step: Step, token: str) -> Result | tuple[JobEntry, FollowUp]:
        """Return the follow-up with this lease, or the result of a call without the lease."""
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        pending, state = entry.follows.get(step), entry.job.follow_up(step)
        if pending is None or state is None or pending.lease != token:
            return Result.STALE
        return entry, state
