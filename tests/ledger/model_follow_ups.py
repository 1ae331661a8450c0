"""The model's jobs, and what follows from their outcomes: archives and notifications."""

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


@dataclass
class Place:
    """The place of a job among those with one follow-up to do, and who holds that."""

    look: int
    lease: str | None = None


@dataclass
class Entry:
    """A job and what the ledger keeps beside it."""

    job: Job
    #: Its score in the agenda; None when it is done.
    look: int | None
    lease: str | None = None
    winner: int | None = None
    events: list[str] = field(default_factory=list)
    #: The follow-ups that are pending.
    follows: dict[Step, Place] = field(default_factory=dict)

    def change(self, **fields: object) -> None:
        self.job = replace(self.job, **fields)  # type: ignore[arg-type]

    def follow_up(self, step: Step) -> FollowUp | None:
        return self.job.archive if step is Step.ARCHIVE else self.job.notification

    def set_follow_up(self, step: Step, state: FollowUp) -> None:
        self.change(**{"archive" if step is Step.ARCHIVE else "notification": state})

    @property
    def expires(self) -> bool:
        return self.look is None and not self.follows

    @property
    def newest(self) -> int:
        return len(self.job.attempts)

    def task(self, attempt: int) -> str | None:
        return self.job.attempts[attempt - 1].task_id if self.sent(attempt) else None

    def sent(self, attempt: int) -> bool:
        return 1 <= attempt <= self.newest

    def holds(self, token: str, attempt: int) -> bool:
        """Whether this lease is still good for recording what a submission came to."""
        on_its_way = self.job.status in (Status.SUBMITTING, Status.UNCONFIRMED)
        return on_its_way and self.lease == token and self.newest == attempt


@dataclass
class Following:
    """The part of the book that is about what follows, and about forgetting."""

    entries: dict[str, Entry] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    #: When the first link of a job that is to be archived may be dead.
    expiring: dict[str, int] = field(default_factory=dict)
    #: Since when a notification is given up.
    dead: dict[str, int] = field(default_factory=dict)
    #: Terminal statuses, contradictions and the ends of follow-ups, ever.
    ever: Counter[str] = field(default_factory=Counter)

    def follow(self, entry: Entry, outcome: Outcome, now: int) -> None:
        """A job has its outcome: begin what follows."""
        if outcome.status is Status.SUCCEEDED:
            self._begin(entry, Step.ARCHIVE, now)
            self.expiring[entry.job.id] = outcome.expires_at(now)
        if entry.job.notification:
            self._begin(entry, Step.NOTIFY, now)

    def follow_claim(self, job_id: str, step: Step, token: str, *, now: int, ends: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        place = entry.follows.get(step)
        if place and place.lease == token:
            return Result.CLAIMED
        if place is None or place.look > now:
            return Result.NOT_DUE
        place.lease, place.look = token, ends
        return Result.CLAIMED

    def follow_later(
        self,
        job_id: str,
        step: Step,
        token: str,
        *,
        now: int,
        look: int,
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
        entry.set_follow_up(step, replace(state, due_at=look))
        entry.change(images=images or entry.job.images)
        entry.follows[step] = Place(look)
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
        entry.change(images=images or entry.job.images)
        entry.events.append(f"{step}_{end}")
        self.ever[f"{step}_{end}"] += 1
        del entry.follows[step]
        if step is Step.ARCHIVE:
            del self.expiring[job_id]
        elif end is FollowUpStatus.DEAD:
            self.dead[job_id] = now
        return Result.RECORDED

    def notify_again(self, job_id: str, now: int) -> Result:
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        if entry.look is not None:
            return Result.OPEN
        if entry.job.notification is None:
            return Result.SILENT
        place = entry.follows.get(Step.NOTIFY)
        if place is None or place.lease is None or place.look <= now:
            entry.set_follow_up(Step.NOTIFY, replace(entry.job.notification, tries=0))
            self._begin(entry, Step.NOTIFY, now)
            entry.events.append("notify_again")
            self.dead.pop(job_id, None)
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
        """The jobs with this follow-up due, and since when."""
        looks = {i: e.follows[step].look for i, e in self.entries.items() if step in e.follows}
        return {job_id: look for job_id, look in looks.items() if look <= now}

    def overdue(self, before: int) -> set[tuple[str, Step]]:
        """Follow-ups whose look was due before then."""
        return {(i, step) for step in FOLLOW_UPS for i in self.due(step, before - 1)}

    def _begin(self, entry: Entry, step: Step, now: int) -> None:
        state = entry.follow_up(step) or FollowUp(FollowUpStatus.WAITING)
        pending = replace(state, status=FollowUpStatus.PENDING, since=now, due_at=now)
        entry.set_follow_up(step, pending)
        entry.follows[step] = Place(now)

    def _held(self, job_id: str, step: Step, token: str) -> Result | tuple[Entry, FollowUp]:
        """The follow-up that this token holds; else what its holder is told."""
        entry = self.entries.get(job_id)
        if entry is None:
            return Result.MISSING
        place, state = entry.follows.get(step), entry.follow_up(step)
        if place is None or state is None or place.lease != token:
            return Result.STALE
        return entry, state
