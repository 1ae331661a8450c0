"""The state machine with follow-ups: archives, notifications and deleted jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, FollowUpStatus, Image, Outcome, Step
from orchestrator.ledger import Lease, Ledger, Settlement, keys
from orchestrator.ledger.follow_ups import Backlog, Dead
from orchestrator.runtime import Runtime
from tests.ledger import kit
from tests.ledger.kit import COPY, LEASE
from tests.ledger.machine import HOUR, STEPS_PER_VERIFICATION, WAITS, WHICH, LedgerMachine

ENDS = {
    "done": FollowUpStatus.DONE,
    "dead": FollowUpStatus.DEAD,
    "gone": FollowUpStatus.GONE,
}
#: The kinds of actions, with the frequent ones more than once.
FOLLOW_UP_ACTION_KINDS = (
    *(*ENDS, "done", "failed", "failed"),
    *("postponed", "nothing", "nothing"),
)
AGES = (-1, 0, HOUR)


class FollowUpAction(NamedTuple):
    """The action of a worker after its claim. "nothing" means that the worker dies."""

    kind: str
    wait: int


FOLLOW_UP_ACTIONS = st.builds(
    FollowUpAction, st.sampled_from(FOLLOW_UP_ACTION_KINDS), st.sampled_from(WAITS)
)


class RecordingLedger(Ledger):
    """Records the steps that each settlement made due."""

    def __init__(self, client: Callable[[], Redis]) -> None:
        super().__init__(client)
        self.due_steps: list[tuple[str, tuple[Step, ...]]] = []

    def settle_attempt(self, job_id: str, *args: Any, **options: Any) -> Settlement:
        return self._record(job_id, super().settle_attempt(job_id, *args, **options))

    def settle(self, lease: Lease, *args: Any, **options: Any) -> Settlement:
        return self._record(lease.job.id, super().settle(lease, *args, **options))

    def cancel(self, job_id: str, *, now: int) -> Settlement:
        return self._record(job_id, super().cancel(job_id, now=now))

    def _record(self, job_id: str, settlement: Settlement) -> Settlement:
        if settlement.due:
            self.due_steps.append((job_id, settlement.due))
        return settlement


class FollowUpMachine(LedgerMachine):
    """Adds workers that archive and notify, an operator, and the deletion of old jobs."""

    def __init__(self, client: Redis, runtime: Runtime) -> None:
        super().__init__(client, runtime)
        self.recorded = RecordingLedger(lambda: cast(Redis, self.recorder))
        self.ledger = self.recorded
        self.runtime = replace(self.runtime, ledger=self.ledger)
        self.followers: list[tuple[Lease, Step]] = []
        #: The leases without a recorded result.
        self.held: dict[tuple[str, Step], Lease] = {}

    def teardown(self) -> None:
        super().teardown()
        assert Counter(self.recorded.due_steps) == self.book.due_steps

    # Workers -------------------------------------------------------------------------------

    @rule(
        which=WHICH,
        step=st.sampled_from(FOLLOW_UPS),
        wait=st.integers(0, 3),
        lasts=st.sampled_from(WAITS),
        action=FOLLOW_UP_ACTIONS,
    )
    def follow(self, which: int, step: Step, wait: int, lasts: int, action: FollowUpAction) -> None:
        """A worker claims a follow-up. Mostly it is due."""
        entries = self.book.entries
        pending = [i for i in self.ids if i in entries and step in entries[i].follows]
        job_id = pending[which % len(pending)] if pending and which < 10 else self.job(which)
        if job_id in pending and wait:
            self.clock.now = max(self.now, entries[job_id].follows[step].due_at)
        now, lasts = self.now, lasts or LEASE
        leases = []
        self.compare(
            lambda: leases.append(
                self.ledger.follow_ups.claim(job_id, step, now=now, lease_ms=lasts)
            ),
            lambda: self.book.follow_claim(
                job_id, step, str(self.recorder.calls[-1][7]), now=now, ends=now + lasts
            ),
        )
        for lease in filter(None, leases):
            assert (lease.job, lease.ends_at) == (entries[job_id].job, now + lasts)
            self.check_one_holder(lease, step)
            self.followers.append((lease, step))
            self.record_follow_up(lease, step, action)

    @precondition(lambda self: self.followers)
    @rule(which=WHICH, action=FOLLOW_UP_ACTIONS)
    def record_follow_up_again(self, which: int, action: FollowUpAction) -> None:
        """A worker records a second result, or a late one. It may have lost its lease."""
        among = self.followers[-8:]
        lease, step = among[which % len(among)]
        self.record_follow_up(lease, step, action)

    def check_one_holder(self, lease: Lease, step: Step) -> None:
        """Check that no other lease on the same follow-up is valid. A late result ends a lease."""
        before = self.held.get((lease.job.id, step))
        if before and before.job.late_images == lease.job.late_images:
            assert before.ends_at <= self.now
        self.held[lease.job.id, step] = lease

    def record_follow_up(self, lease: Lease, step: Step, action: FollowUpAction) -> None:
        """Record the result of a try."""
        job_id, token, now, kind = lease.job.id, lease.token, self.now, action.kind
        tries, error = 1 + action.wait % 5, "503 from the host"
        images = archived(lease.job.all_images, kind) if step is Step.ARCHIVE else ()
        plan: dict[str, Any] = {"now": now, "tries": tries, "error": error, "images": images}
        if kind in ENDS:
            end = FollowUpStatus.DEAD if (step, kind) == (Step.ARCHIVE, "gone") else ENDS[kind]
            plan["error"] = "" if end is FollowUpStatus.DONE else error
            self.compare(
                lambda: self.ledger.follow_ups.done(lease, step, end, **plan),
                lambda: self.book.follow_done(job_id, step, token, end, **plan),
            )
        elif kind in ("failed", "postponed"):
            if kind == "postponed":
                plan |= {"tries": None, "error": "", "images": ()}
            due_at = now + action.wait
            self.compare(
                lambda: self.ledger.follow_ups.later(lease, step, due_at=due_at, **plan),
                lambda: self.book.follow_later(job_id, step, token, due_at=due_at, **plan),
            )
        if kind != "nothing" and self.held.get((job_id, step)) is lease:
            del self.held[job_id, step]

    # An operator ---------------------------------------------------------------------------

    @precondition(lambda self: self.steps % 3 == 1)
    @rule(which=WHICH)
    def notify_again(self, which: int) -> None:
        job_id, now = self.job(which), self.now
        self.compare(
            lambda: self.ledger.follow_ups.notify_again(job_id, now=now),
            lambda: self.book.notify_again(job_id, now),
        )

    @precondition(lambda self: self.steps % 3 == 2)
    @rule(which=WHICH)
    def archive_again(self, which: int) -> None:
        job_id, now = self.job(which), self.now
        job = self.ledger.get(job_id)
        if job is None:
            return
        images = tuple(replace(image, given_up=False, tries=0) for image in job.all_images)
        missing = tuple(image for image in images if image.copy is None)
        expires = Outcome.succeeded(missing).expires_at(now)
        self.compare(
            lambda: self.ledger.follow_ups.archive_again(job, images, now=now),
            lambda: self.book.archive_again(job_id, images, now=now, expires=expires),
        )

    @precondition(lambda self: self.steps % 5 == 2)
    @rule(which=WHICH, age=st.sampled_from(AGES))
    def forget(self, which: int, age: int) -> None:
        """Delete an old job. Age 0 means: the exact time of the settlement, if any."""
        job_id, before = self.job(which), self.now - age
        entry = self.book.entries.get(job_id)
        if age == 0 and entry and entry.job.settled_at:
            before = entry.job.settled_at
        self.compare(
            lambda: self.ledger.overview.forget(job_id, before=before),
            lambda: self.book.forget(job_id, before),
        )
        if job_id not in self.book.entries:
            self.repeatable = []  # no client repeats a call that is older than the settlement

    # Invariants ----------------------------------------------------------------------------

    @invariant()
    def redis_equals_model_follow_ups(self) -> None:
        book, entries = self.book, self.book.entries
        with self.redis.pipeline(transaction=False) as pipe:
            for step in FOLLOW_UPS:
                pipe.zrange(keys.follow_up(0, step), 0, -1, withscores=True)
            for key in (keys.expiring(0), keys.dead(0)):
                pipe.zrange(key, 0, -1, withscores=True)
            for job_id in entries:
                pipe.hmget(keys.job(job_id), [f"{step}.lease" for step in FOLLOW_UPS])
                pipe.pttl(keys.job(job_id))
                pipe.pttl(keys.events(job_id))
            answers: list[Any] = pipe.execute()
        *sets, expiring, dead = map(dict, answers[: len(FOLLOW_UPS) + 2])
        jobs = answers[len(FOLLOW_UPS) + 2 :]
        for step, members in zip(FOLLOW_UPS, sets, strict=True):
            due_times = {i: e.follows[step].due_at for i, e in entries.items() if step in e.follows}
            assert members == due_times
        assert expiring == book.expiring
        assert dead == book.dead
        for entry, leases, *left in zip(
            entries.values(), jobs[::3], jobs[1::3], jobs[2::3], strict=True
        ):
            pending = [entry.follows.get(step) for step in FOLLOW_UPS]
            assert leases == [follow_up and follow_up.lease for follow_up in pending]
            assert [ms == -1 for ms in left] == [not entry.expires] * 2

    @invariant()
    def due_follow_ups_equal_model(self) -> None:
        book, follow_ups = self.book, self.ledger.follow_ups
        for step in FOLLOW_UPS:
            due = book.due(step, self.now)
            order = book.expiring if step is Step.ARCHIVE else due
            listed = follow_ups.due(0, step, now=self.now, limit=99)
            assert listed == sorted(due, key=lambda job_id: (order[job_id], job_id))
            pending = sum(step in entry.follows for entry in book.entries.values())
            lag = max((self.now - due_at for due_at in due.values()), default=0)
            assert follow_ups.backlog(step, now=self.now) == Backlog(pending, len(due), lag)
        assert follow_ups.dead(99)[1] == [
            Dead(job_id, at) for job_id, at in sorted(book.dead.items(), key=lambda d: (d[1], d[0]))
        ]

    @invariant()
    def fields_in_redis_are_valid(self) -> None:
        for job_id in self.book.entries:
            if self.steps % STEPS_PER_VERIFICATION == 0:
                kit.check_job(self.redis, job_id)


def archived(images: tuple[Image, ...], kind: str) -> tuple[Image, ...]:
    """Return the images after a try. Only a successful try has a copy of every image."""
    copied = len(images) if kind == "done" else 1
    return tuple(
        replace(image, copy=COPY, error=None)
        if number < copied
        else replace(image, error=None if image.copy else "404 from the host")
        for number, image in enumerate(images)
    )
