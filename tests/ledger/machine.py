"""Callers, workers, a provider, time and a doubtful wire at a ledger, beside the model's book.

What follows from outcomes is added in machine_follow_ups.py; test_model.py has both live.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from redis import Redis

from orchestrator.jobs.model import STEP_OF, Attempt, Cost, Job, Outcome, SettledBy, Status, Step
from orchestrator.ledger import Idempotency, Lease, Ledger, Result, codec, keys
from orchestrator.operations.verify import MAX_OVERDUE_MS, Verification
from orchestrator.runtime import Runtime
from tests.ledger.kit import COST, FAILURE, LEASE, NOTIFYING, NOW, REQUEST, SUCCESS, Wire
from tests.ledger.model import Book
from tests.support.fakes import Clock

#: After so many steps the whole ledger is verified, as a user would.
VERIFIED = 5
#: No more jobs than that, so that everybody meets.
JOBS = 3
#: How many of the last calls may still be repeated by the wire.
REMEMBERED = 6
HOUR = 3_600_000
DEADLINE = 2 * HOUR

WHICH = st.integers(0, 11)
#: What callers ask for: most often to be told.
REQUESTS = (NOTIFYING, replace(REQUEST, model="another"), REQUEST, NOTIFYING)
#: The provider's words; one success is another's contradiction.
OUTCOMES = (
    SUCCESS,
    replace(SUCCESS, images=(*SUCCESS.images, *SUCCESS.images), cost=None),
    FAILURE,
    Outcome(Status.CANCELLED, error=FAILURE.error),
)
COSTS = (None, COST, replace(COST, amount=9))
#: 15: the provider task has another id than usual.
OTHER = st.integers(0, 15)
WAITS = (0, 1, 10_000, HOUR)
JUMPS = (1, 1000, LEASE, MAX_OVERDUE_MS + 1, HOUR, DEADLINE)
#: How far back an attempt is that the provider speaks of; 0: the newest; -1: it was not made.
BACKS = (0, 0, 0, 0, 1, 1, 2, -1)
BACK = st.sampled_from(BACKS)
Move = Callable[[], Result]


class Doing(NamedTuple):
    """What a worker does with a job that it took; nothing: it dies."""

    what: str
    wait: int
    outcome: Outcome


DONE = ("unconfirmed", "deferred", "resubmitted", "polled", "settled", "nothing")
DOINGS = st.builds(Doing, st.sampled_from(DONE), st.sampled_from(WAITS), st.sampled_from(OUTCOMES))


class LedgerMachine(RuleBasedStateMachine):
    """Callers, workers, a provider, time and a doubtful wire; the book knows what must come."""

    def __init__(self, client: Redis, runtime: Runtime) -> None:
        super().__init__()
        client.flushdb()
        self.redis, self.wire = client, Wire(client)
        self.ledger = Ledger(lambda: cast(Redis, self.wire))
        self.clock = Clock(NOW)
        self.runtime = replace(runtime, ledger=self.ledger, clock=self.clock)
        self.book = Book()
        self.ids: list[str] = []
        self.leases: list[Lease] = []
        self.ended: dict[str, tuple[Any, ...]] = {}
        self.repeatable: list[tuple[Callable[[], Any], Move]] = []
        self.steps = 0
        self.heard = client.pubsub()  # type: ignore[no-untyped-call]
        self.heard.psubscribe("{orch*:settled:*")
        self.heard.get_message(timeout=2)

    def teardown(self) -> None:
        self.verify()
        with self.heard:
            told = iter(lambda: self.heard.get_message(timeout=0.01), None)
            announced = Counter(str(message["channel"]) for message in told)
        assert announced == {keys.settled(job_id): 1 for job_id in self.ended}

    # The parties' means --------------------------------------------------------------------

    def make(self, call: Callable[[], object], move: Move) -> None:
        """A call to the ledger, and what it comes to in the book."""
        call()
        assert self.wire.answer[0] == move()
        self.repeatable = [*self.repeatable, (self.wire.again, move)][-REMEMBERED:]

    def job(self, which: int) -> str:
        return str(self.ids[which % len(self.ids)])

    @property
    def now(self) -> int:
        return self.clock.now

    # Callers -------------------------------------------------------------------------------

    @initialize(older=st.booleans(), done=st.lists(DOINGS, max_size=3))
    def begin(self, older: bool, done: list[Doing]) -> None:
        """Two jobs; perhaps with an attempt that nobody knows of, and another one bought."""
        self.enqueue("a", 0)
        self.enqueue(None, 0)
        bought = [Doing("unconfirmed", 0, SUCCESS), Doing("resubmitted", 0, SUCCESS)]
        for doing in [*(bought if older else ()), *done]:
            for which in (0, 1):
                self.work(which, 1, 1, 0, doing)

    @precondition(lambda self: self.steps % 4 == 0)
    @rule(key=st.sampled_from([None, "a", "b"]), other=st.integers(0, 3))
    def enqueue(self, key: str | None, other: int) -> None:
        if key is None and sum(i in self.book.entries for i in self.ids) == JOBS:
            return
        request = REQUESTS[other]
        now, deadline = self.now, self.now + DEADLINE
        idempotency = Idempotency("caller", key) if key else None

        def call() -> None:
            made = self.ledger.create(
                request, now=now, deadline_at=deadline, idempotency=idempotency
            )
            if made.result is Result.CREATED:
                self.ids = [*self.ids, made.job_id][-JOBS:]
            elif key:
                assert made.job_id == self.book.keys[key][0]

        self.make(
            call,
            lambda: self.book.create(
                str(self.wire.calls[-1][2]).rpartition(":")[2],
                request,
                now=now,
                deadline=deadline,
                key=key,
            ),
        )

    @precondition(lambda self: self.steps % 4 == 1)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        job_id, now = self.job(which), self.now
        self.make(
            lambda: self.ledger.cancel(job_id, now=now), lambda: self.book.cancel(job_id, now)
        )

    # Workers -------------------------------------------------------------------------------

    @rule(
        which=WHICH,
        wait=st.integers(0, 3),
        odd=st.integers(0, 7),
        lasts=st.sampled_from(WAITS),
        doing=DOINGS,
    )
    def work(self, which: int, wait: int, odd: int, lasts: int, doing: Doing) -> None:
        """A worker takes a job, most often when it is due and for the right step."""
        entries = self.book.entries
        open_ = [i for i in self.ids if i in entries and entries[i].look is not None]
        job_id = open_[which % len(open_)] if open_ and which < 10 else self.job(which)
        entry = entries.get(job_id)
        if entry and entry.look is not None and wait:
            self.clock.now = max(self.now, entry.look)
        step = STEP_OF.get(entry.job.status, Step.POLL) if entry else Step.SUBMIT
        if odd == 0:
            step = Step.POLL if step is Step.SUBMIT else Step.SUBMIT
        now, lasts = self.now, lasts or LEASE
        leases = []
        self.make(
            lambda: leases.append(self.ledger.claim(job_id, step, now=now, lease_ms=lasts)),
            lambda: self.book.claim(
                job_id, str(self.wire.calls[-1][6]), step, now=now, ends=now + lasts
            ),
        )
        for lease in filter(None, leases):
            assert (lease.job, lease.ends_at) == (self.book.entries[job_id].job, now + lasts)
            self.leases.append(lease)
            self.record(lease, doing)

    @precondition(lambda self: self.leases)
    @rule(which=WHICH, doing=DOINGS)
    def come_back(self, which: int, doing: Doing) -> None:
        """A worker records again, or at last; it may have lost its lease long ago."""
        entries, leases = self.book.entries, self.leases[-8:]
        current = [
            lease
            for lease in leases
            if (entry := entries.get(lease.job.id)) and entry.newest == len(lease.job.attempts)
        ]
        among = current if current and which < 9 else leases
        self.record(among[which % len(among)], doing)

    def record(self, lease: Lease, doing: Doing) -> None:
        job_id, token, attempts = lease.job.id, lease.token, lease.job.attempts
        now, look, tries = self.now, self.now + doing.wait, doing.wait % 7
        newest = attempts[-1] if attempts else Attempt(0, 0)
        number, plan = newest.number, {"now": now, "due_at": look, "tries": tries}
        if doing.what in ("deferred", "resubmitted") and attempts:
            self.make(
                lambda: self.ledger.requeue(lease, event=doing.what, detail={}, **plan),
                lambda: self.book.requeue(
                    job_id, number, token, now=now, look=look, tries=tries, event=doing.what
                ),
            )
        elif doing.what == "unconfirmed" and attempts:
            self.make(
                lambda: self.ledger.unconfirmed(lease, reason="reset", **plan),
                lambda: self.book.unconfirmed(
                    job_id, number, token, now=now, look=look, tries=tries
                ),
            )
        elif doing.what == "polled":
            self.make(
                lambda: self.ledger.defer(lease, detail={}, **plan),
                lambda: self.book.defer(job_id, token, now=now, look=look, tries=tries),
            )
        elif doing.what == "settled":
            by, outcome = SettledBy.POLL, doing.outcome
            self.make(
                lambda: self.ledger.settle(lease, outcome, by, now=now),
                lambda: self.book.settle(
                    job_id, number, newest.task_id, outcome, now=now, by=by, token=token
                ),
            )

    # The provider --------------------------------------------------------------------------

    def sent(self, which: int, back: int) -> tuple[str, int]:
        """An attempt of a job that was most often sent: the newest one, or older, or never made."""
        entries = {i: e for i in self.ids if (e := self.book.entries.get(i))}
        sent = [i for i, e in entries.items() if e.newest > max(back, 0)]
        job_id = sent[which % len(sent)] if sent and which < 11 else self.job(which)
        entry = entries.get(job_id)
        return job_id, max((entry.newest if entry else 1) - back, 0)

    def task(self, job_id: str, attempt: int, other: int) -> str:
        return f"{'other' if other == 15 else 'task'}-{job_id}-{attempt}"

    @rule(which=WHICH, back=BACK, other=OTHER,
          wait=st.sampled_from(WAITS), cost=st.sampled_from(COSTS))  # fmt: skip
    def accepted(self, which: int, back: int, other: int, wait: int, cost: Cost | None) -> None:
        (job_id, attempt), now = self.sent(which, back), self.now
        look, task = now + wait, self.task(job_id, attempt, other)
        self.make(
            lambda: self.ledger.accepted(job_id, attempt, task, now=now, due_at=look, cost=cost),
            lambda: self.book.accepted(job_id, attempt, task, now=now, look=look, cost=cost),
        )

    @rule(which=WHICH, back=BACK, other=OTHER,
          outcome=st.sampled_from(OUTCOMES))  # fmt: skip
    def call_back(self, which: int, back: int, other: int, outcome: Outcome) -> None:
        (job_id, attempt), now = self.sent(which, back), self.now
        task, by = self.task(job_id, attempt, other), SettledBy.CALLBACK
        self.make(
            lambda: self.ledger.settle_attempt(job_id, attempt, task, outcome, now=now),
            lambda: self.book.settle(job_id, attempt, task, outcome, now=now, by=by),
        )

    @rule(which=WHICH, back=BACK, other=OTHER,
          look=st.sampled_from([None, 0, 5_000]), wait=st.sampled_from(WAITS))  # fmt: skip
    def tell_news(self, which: int, back: int, other: int, look: int | None, wait: int) -> None:
        (job_id, attempt), now = self.sent(which, back), self.now
        task, then = self.task(job_id, attempt, other), None if look is None else now + look
        self.make(
            lambda: self.ledger.observe(
                job_id, attempt, task, now=now, due_at=then, fallback=now + wait
            ),
            lambda: self.book.observe(
                job_id, attempt, task, now=now, look=then, fallback=now + wait
            ),
        )

    # The harness -----------------------------------------------------------------------------

    @rule(jump=st.sampled_from(JUMPS))
    def time_passes(self, jump: int) -> None:
        self.clock.now += jump

    @precondition(lambda self: self.repeatable and self.steps % 3 == 0)
    @rule(which=WHICH)
    def the_wire_repeats_a_call(self, which: int) -> None:
        again, move = self.repeatable[-1 - which % len(self.repeatable)]
        assert again()[0] == move()

    @precondition(lambda self: self.ended and self.steps % 5 == 0)
    @rule(which=WHICH, again=st.booleans())
    def retention_ends(self, which: int, again: bool) -> None:
        job_id = self.job(which)
        entry = self.book.entries.get(job_id)
        if entry and entry.expires:
            self.redis.delete(keys.job(job_id), keys.events(job_id))
            self.book.expire(job_id)
            self.repeatable = []  # no wire repeats what was asked a month ago
            if again:
                self.enqueue("a", 0)

    @precondition(lambda self: self.steps % 5 == 1)
    @rule(age=st.sampled_from([0, 10_000, HOUR]))
    def tidy(self, age: int) -> None:
        oldest = self.now - age
        assert self.ledger.overview.tidy(oldest=oldest) == self.book.tidy(oldest)

    # What always holds ---------------------------------------------------------------------

    @invariant()
    def redis_holds_what_the_book_says(self) -> None:
        self.steps += 1
        ids = list(self.book.entries)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrange(keys.agenda(0), 0, -1, withscores=True)
            pipe.zrange(keys.unconfirmed(0), 0, -1, withscores=True)
            pipe.zrange(keys.jobs(0), 0, -1)
            pipe.hgetall(keys.counts(0))
            for job_id in ids:
                pipe.hgetall(keys.job(job_id))
                pipe.lrange(keys.events(job_id), 0, -1)
            agenda, risky, listed, counts, *told = pipe.execute()
        seen = dict(agenda)
        assert seen == {i: e.look for i, e in self.book.entries.items() if e.look is not None}
        risks = {f"{who.job_id}.{who.attempt}": at for who, at in self.book.at_risk.items()}
        assert dict(risky) == risks
        assert listed == sorted(self.book.listed)
        assert {n: int(count) for n, count in counts.items() if count != "0"} == self.book.counts()
        for job_id, fields, lines in zip(ids, told[::2], told[1::2], strict=True):
            entry = self.book.entries[job_id]
            assert codec.read_job(job_id, fields) == entry.job
            winner = None if entry.winner is None else str(entry.winner)
            assert (fields.get("lease"), fields.get("winner")) == (entry.lease, winner)
            assert [codec.read_event(line).name for line in lines] == entry.events
            self.an_outcome_is_for_ever(entry.job)

    @invariant()
    def what_is_due_is_nudged(self) -> None:
        due = {
            job_id: STEP_OF[entry.job.status]
            for job_id, entry in self.book.entries.items()
            if entry.look is not None and entry.look <= self.now
        }
        found = self.ledger.due(0, now=self.now, limit=99)
        assert dict(found) == due
        assert len(found) == len(due)

    def an_outcome_is_for_ever(self, job: Job) -> None:
        if job.status.terminal or job.id in self.ended:
            links = [(image.source_url, image.expires_at) for image in job.images]
            outcome = (job.status, links, job.error, job.settled_at, job.settled_by)
            assert self.ended.setdefault(job.id, outcome) == outcome

    @invariant()
    def the_promise_is_verified(self) -> None:
        if self.steps % VERIFIED == 0:
            self.verify()

    def verify(self) -> None:
        assert breaches(self.runtime) == {
            ("not_overdue", job_id)
            for job_id, entry in self.book.entries.items()
            if entry.look is not None and self.now - entry.look > MAX_OVERDUE_MS
        } | {
            ("not_overdue", f"{job_id} {step}")
            for job_id, step in self.book.overdue(self.now - MAX_OVERDUE_MS)
        }


def breaches(runtime: Runtime) -> set[tuple[str, str]]:
    """What verify finds broken, and whose."""
    verification = Verification(runtime)
    for _ in verification.run():
        pass
    return {(found.name, breach) for found in verification.reports() for breach in found.breaches}
