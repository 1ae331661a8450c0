"""The time line of a job: the stages of each attempt on one scale, and its events in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.jobs.event import Event
from orchestrator.jobs.model import (
    Attempt,
    FollowUp,
    FollowUpStatus,
    Job,
    SettledBy,
    Status,
)

#: The width of a time line. Units of its drawing.
WIDTH = 1000
#: The width of a stage that is too short to be seen.
MIN_WIDTH = 8
#: What each event means.
MEANINGS: Mapping[str, str] = {
    "created": "The caller enqueued the job.",
    "submitting": "A worker sends the request to the provider.",
    "accepted": "The provider accepted the request and named its task.",
    "unconfirmed": "No readable answer came. The request may have been charged.",
    "deferred": "The provider did not take the request now. It is sent again.",
    "refused": "The provider refused the request. A fallback gets it.",
    "resubmitted": "Nobody knows what became of the attempt. The request allows another one.",
    "paused": "The provider is paused, so the task was not asked about.",
    "moved": "The job moved to a fallback.",
    "fallback_skipped": "A fallback would exceed the tenant's budget, so it was left out.",
    "polled": "The provider was asked about the task. There is no outcome yet.",
    "poll_asked": "Somebody asked for a poll now.",
    "callback": "A callback came. A poll decides about the outcome.",
    "settled": "The job has its outcome.",
    "duplicate": "The same outcome came again. It changed nothing.",
    "conflict": "Another outcome came. The first one stands.",
    "late_result": "Images came after the outcome. They are kept.",
    "superseded": "An older attempt failed. A newer one goes on.",
    "mismatch": "A message named a task that does not belong to this attempt. It changed nothing.",
    "archive_done": "Every image has a copy.",
    "archive_failed": "An image could not be copied. It is tried again.",
    "archive_dead": "An image could not be copied, and is not tried again.",
    "archive_again": "Somebody started the archive again.",
    "notify_done": "The caller accepted the notification.",
    "notify_failed": "The caller did not accept the notification. It is sent again.",
    "notify_dead": "The caller did not accept the notification, and it is not sent again.",
    "notify_gone": "The caller answered that it does not want the notification.",
    "notify_again": "Somebody asked to notify the caller again.",
    "confirm_done": "The provider was asked about a task whose callback came late.",
    "confirm_failed": "The provider could not be asked about a late task. It is asked again.",
    "confirm_dead": "The provider could not be asked about a late task.",
}
#: The events that end an attempt, and leave the job without its outcome.
_ENDS = ("deferred", "refused", "resubmitted")
_SETTLED_NAMES = {
    SettledBy.CALLBACK: "Callback",
    SettledBy.POLL: "Poll",
    SettledBy.SUBMIT: "Answer",
    SettledBy.DEADLINE: "Given up",
    SettledBy.CANCEL: "Cancelled",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of an attempt.

    Attributes:
        name: its words.
        state: done, now, failed, unknown, or next (it has not begun).
        note: more about it, perhaps with text of somebody else.
        begins, ends: ms; None: not yet, or nobody knows.
        x, width: its place on the time line, in units of WIDTH.
    """

    name: str
    state: str
    note: str = ""
    begins: int | None = None
    ends: int | None = None
    x: float = 0
    width: float = 0

    @property
    def seconds(self) -> float | None:
        """The duration, if it has one."""
        known = self.begins is not None and self.ends is not None and self.ends > self.begins
        return (self.ends - self.begins) / 1000 if known else None  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class Line:
    """The time line of one attempt, or of the time before the next one (`attempt` is None)."""

    attempt: Attempt | None
    provider: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """An event in words, and the seconds since the event before."""

    event: Event
    meaning: str
    seconds: float | None


def rows(events: Sequence[Event]) -> list[Row]:
    """Return the events of a timeline, oldest first."""
    times = [None, *(event.at for event in events)]
    return [
        Row(event, MEANINGS.get(event.name, ""), None if at is None else (event.at - at) / 1000)
        for event, at in zip(events, times, strict=False)
    ]


def lines(job: Job, events: Sequence[Event], *, now: int) -> list[Line]:
    """Return the time lines of the attempts, oldest first.

    Args:
        job: the job.
        events: its timeline.
        now: ms. It ends the stage that lasts until now.
    """
    found, begins = [], job.created_at
    winner = _winner(job, events)
    for attempt in job.attempts:
        own = [event for event in events if event.detail.get("attempt") == attempt.number]
        stages, ends = _stages(job, attempt, own, begins, now, wins=attempt.number == winner)
        found.append(Line(attempt, job.provider_of(attempt.number), _drawn(stages)))
        begins = ends or begins
    if job.status is Status.QUEUED or (winner is None and job.settled_at):
        found.append(Line(None, job.provider, _drawn(_before_attempt(job, begins, now))))
    return found


def _winner(job: Job, events: Sequence[Event]) -> int | None:
    """Return the number of the attempt that brought the outcome, or None."""
    if job.settled_at is None or job.settled_by is SettledBy.CANCEL or not job.attempts:
        return None
    named: list[Any] = [e.detail.get("attempt") for e in events if e.name == "settled"]
    numbers = [attempt.number for attempt in job.attempts]
    if named and named[-1] not in numbers:
        return None  # the deadline passed before the next attempt
    return named[-1] if named else numbers[-1]


def _before_attempt(job: Job, begins: int, now: int) -> list[Stage]:
    """Return the stages of a job that waits for an attempt, or ended without another one."""
    if job.settled_at is None:
        upcoming = [Stage(name, "next") for name in ("Submitted", "Waiting", "Outcome")]
        return [Stage("Queued", "now", "", begins, now), *upcoming, *_follow_stages(job, now)]
    queued = Stage("Queued", "done", "", begins, job.settled_at)
    return [queued, _outcome(job), *_follow_stages(job, now)]


def _stages(
    job: Job, attempt: Attempt, own: Sequence[Event], begins: int, now: int, *, wins: bool
) -> tuple[list[Stage], int | None]:
    """Return the stages of an attempt, and when it ended without an outcome."""
    last = attempt is job.attempts[-1]
    ended = next((e for e in reversed(own) if e.name in _ENDS), None)
    stages = [Stage("Queued", "done", "", begins, attempt.submitted_at)]
    answered = next((e for e in own if e.name in ("accepted", "unconfirmed")), None)
    ends_at = ended.at if ended else job.settled_at if wins else None
    here = last and not job.status.terminal and ended is None
    until = ends_at if ends_at is not None else now if here else None
    if answered is None or (ends_at is not None and answered.at > ends_at):
        state = "now" if here else "done"
        stages.append(Stage("Submitted", state, "", attempt.submitted_at, until))
    else:
        stages.append(Stage("Submitted", "done", "", attempt.submitted_at, answered.at))
        stages.append(_waiting(answered, own, until, here=here))
    if ended:
        note = str(ended.detail.get("message") or MEANINGS[ended.name])
        name = "Sent again" if ended.name == "resubmitted" else "Refused"
        stages.append(Stage(name, "failed", note, ended.at, ended.at))
    elif wins:
        stages += [_outcome(job), *_follow_stages(job, now)]
    elif here:
        stages += [Stage("Outcome", "next"), *_follow_stages(job, now)]
    return stages, ends_at


def _waiting(answered: Event, own: Sequence[Event], until: int | None, *, here: bool) -> Stage:
    accepted = next((e for e in own if e.name == "accepted"), None)
    if accepted:
        note = f"Accepted as task {accepted.detail.get('task_id', '')}."
        return Stage("Waiting", "now" if here else "done", note, answered.at, until)
    note = f"Unconfirmed: {answered.detail.get('reason', 'no answer')}."
    return Stage("Waiting", "unknown", note, answered.at, until)


def _outcome(job: Job) -> Stage:
    good = job.status is Status.SUCCEEDED
    if good:
        number = len(job.images)
        note = f"Succeeded with {number} image{'' if number == 1 else 's'}."
    else:
        note = job.error.message if job.error else ""
    name = _SETTLED_NAMES[job.settled_by] if job.settled_by else "Outcome"
    return Stage(name, "done" if good else "failed", note, job.settled_at, job.settled_at)


def _follow_stages(job: Job, now: int) -> list[Stage]:
    """Return the stages that follow the outcome."""
    stages = []
    if job.archive or not job.status.terminal:
        copied = [image.copy.archived_at for image in job.all_images if image.copy]
        stages.append(_follow_stage("Archived", job.archive, job, now, max(copied, default=None)))
    if job.request.notifies:
        stages.append(_follow_stage("Told", job.notification, job, now))
    return stages


def _follow_stage(
    name: str, follow_up: FollowUp | None, job: Job, now: int, done_at: int | None = None
) -> Stage:
    if job.settled_at is None or follow_up is None:
        return Stage(name, "next")
    begins = job.settled_at
    if follow_up.status is FollowUpStatus.DONE:
        ends = max(done_at or follow_up.tried_at or begins, begins)
        return Stage(name, "done", "", begins, ends)
    if follow_up.status is FollowUpStatus.PENDING:
        return Stage(name, "now", follow_up.error or "", begins, now)
    if follow_up.status is FollowUpStatus.OFF:
        return Stage(name, "done", "It is switched off.", begins, begins)
    note = "The caller does not want it." if follow_up.status is FollowUpStatus.GONE else ""
    return Stage(name, "failed", note or follow_up.error or "", begins, follow_up.tried_at)


def _drawn(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Place the stages on one scale."""
    times = [t for stage in stages for t in (stage.begins, stage.ends) if t is not None]
    first, span = min(times), max(max(times) - min(times), 1)
    placed = []
    for stage in stages:
        if stage.begins is None:
            placed.append(stage)
            continue
        ends = stage.begins if stage.ends is None else stage.ends
        x = (stage.begins - first) / span * WIDTH
        width = max((ends - stage.begins) / span * WIDTH, MIN_WIDTH)
        x = min(x, WIDTH - width)
        placed.append(replace(stage, x=round(x, 1), width=round(width, 1)))
    return tuple(placed)
