"""A state machine that runs the ledger and its model side by side.

Callers, workers and a provider call both. Time passes, and calls are repeated. After each step the
state in Redis must equal the model. machine_follow_ups.py adds the follow-ups. test_model.py runs
the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis import Redis

from orchestrator.jobs.model import (
    STEP_OF,
    Attempt,
    Cost,
    Job,
    Outcome,
    PendingFailure,
    SettledBy,
    Status,
    Step,
)
from orchestrator.ledger import Idempotency, Lease, Ledger, Result, codec, keys
from orchestrator.ledger.creation import NewJob
from orchestrator.ledger.timeline import read_events
from orchestrator.operations.invariants import MAX_OVERDUE_MS
from orchestrator.operations.verify import Verification
from orchestrator.runtime import Runtime
from tests.ledger import kit
from tests.ledger.kit import COST, FAILURE, LEASE, MOVING, NOTIFYING, NOW, REQUEST, SUCCESS, THIN
from tests.ledger.model import Book
from tests.ledger.recording import RecordingClient
from tests.support.fakes import Clock

#: `verify` checks the whole ledger once per this number of steps.
STEPS_PER_VERIFICATION = 10
#: The maximum number of jobs. It is small, so that many calls concern the same job.
MAX_JOBS = 3
#: This number of the newest calls may be repeated.
REPEATABLE_CALLS = 6
HOUR = 3_600_000
DEADLINE = 2 * HOUR

WHICH = st.integers(0, 11)
#: The requests of callers. Most of them ask for a notification.
REQUESTS = (NOTIFYING, replace(REQUEST, model="another"), MOVING, MOVING)
#: The outcomes of the provider. The two successes differ.
OUTCOMES = (
    SUCCESS,
    replace(SUCCESS, images=(*SUCCESS.images, *SUCCESS.images), cost=None),
    FAILURE,
    Outcome(Status.CANCELLED, error=FAILURE.error),
)
COSTS = (None, COST, replace(COST, amount=9))
FAILURES = (None, PendingFailure(THIN, NOW, 1), PendingFailure(THIN, NOW, 2))
#: 15 means: another id of the provider task.
OTHER = st.integers(0, 15)
#: Times from now to a due time or to the end of a lease. ms.
WAITS = (0, 1, 10_000, HOUR)
#: Jumps of the clock. ms.
JUMPS = (1, 1000, LEASE, MAX_OVERDUE_MS + 1, HOUR, DEADLINE)
#: The attempt that the provider reports. 0: the newest. 1: the one before. -1: it was never sent.
BACKS = (0, 0, 0, 0, 1, 1, 2, -1)
BACK = st.sampled_from(BACKS)
ModelCall = Callable[[], Result]


class WorkerAction(NamedTuple):
    """The action of a worker after its claim. "nothing" means that the worker dies."""

    kind: str
    wait: int
    outcome: Outcome
    failure: PendingFailure | None = None


#: The kinds of actions, with the frequent ones more than once.
ACTION_KINDS = (
    *("unconfirmed", "deferred", "resubmitted", "polled", "settled", "refused"),
    *("nothing", "nothing", "nothing"),
)
WORKER_ACTIONS = st.builds(
    WorkerAction,
    st.sampled_from(ACTION_KINDS),
    st.sampled_from(WAITS),
    st.sampled_from(OUTCOMES),
    st.sampled_from(FAILURES),
)


class LedgerMachine(RuleBasedStateMachine):
    """Callers, workers, a provider, time and repeated calls. The model has the expected results."""

    def __init__(self, client: Redis, runtime: Runtime) -> None:
        super().__init__()
        client.flushdb()
        self.redis, self.recorder = client, RecordingClient(client)
        self.ledger = Ledger(lambda: cast(Redis, self.recorder))
        self.clock = Clock(NOW)
        self.batch = kit.open_batch(self.ledger)
        self.runtime = replace(runtime, ledger=self.ledger, clock=self.clock)
        self.book = Book()
        self.ids: list[str] = []
        self.leases: list[Lease] = []
        self.ended: dict[str, tuple[Any, ...]] = {}
        self.repeatable: list[tuple[Callable[[], Any], ModelCall]] = []
        self.steps = 0
        self.listener = client.pubsub()
        self.listener.psubscribe("{orch*:settled:*")
        self.listener.get_message(timeout=kit.WAIT_SECONDS)

    def teardown(self) -> None:
        self.verify()
        with self.listener:
            announced = kit.announced_outcomes(self.redis, self.listener)
        assert announced == {keys.settled(job_id): 1 for job_id in self.ended}

    # Helpers -------------------------------------------------------------------------------

    def compare(self, call: Callable[[], object], model_call: ModelCall) -> None:
        """Call the ledger and the model. Their results must be equal."""
        call()
        assert self.recorder.answer[0] == model_call()
        self.repeatable = [*self.repeatable, (self.recorder.repeat, model_call)][-REPEATABLE_CALLS:]

    def job(self, which: int) -> str:
        return str(self.ids[which % len(self.ids)])

    @property
    def now(self) -> int:
        return self.clock.now

    # Callers -------------------------------------------------------------------------------

    @initialize(resubmit=st.booleans(), actions=st.lists(WORKER_ACTIONS, max_size=3))
    def begin(self, resubmit: bool, actions: list[WorkerAction]) -> None:
        """Create two jobs. With `resubmit`, each has an unconfirmed attempt and a second one."""
        self.enqueue("a", 0, True)
        self.enqueue(None, 0, False)
        second = [WorkerAction("unconfirmed", 0, SUCCESS), WorkerAction("resubmitted", 0, SUCCESS)]
        for action in [*(second if resubmit else ()), *actions]:
            for which in (0, 1):
                self.work(which, 1, 1, 0, action)

    @precondition(lambda self: self.steps % 4 == 0)
    @rule(key=st.sampled_from([None, "a", "b"]), other=st.integers(0, 3), joins=st.booleans())
    def enqueue(self, key: str | None, other: int, joins: bool) -> None:
        if key is None and sum(i in self.book.entries for i in self.ids) == MAX_JOBS:
            return
        request = REQUESTS[other]
        now, deadline = self.now, self.now + DEADLINE
        idempotency = Idempotency("caller", key) if key else None

        def call() -> None:
            if joins:
                new = NewJob(request, deadline, "default", None, {}, idempotency, self.batch)
                [created] = self.ledger.batches.create_jobs([new], now=now)
            else:
                created = self.ledger.create(
                    request, now=now, deadline_at=deadline, idempotency=idempotency
                )
            if created.result is Result.CREATED:
                self.ids = [*self.ids, created.job_id][-MAX_JOBS:]
            elif key:
                assert created.job_id == self.book.keys[key][0]

        self.compare(
            call,
            lambda: self.book.create(
                str(self.recorder.calls[-1][2]).rpartition(":")[2],
                request,
                now=now,
                deadline=deadline,
                key=key,
                batch=self.batch if joins else None,
            ),
        )

    @precondition(lambda self: self.steps % 4 == 1)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        job_id, now = self.job(which), self.now
        self.compare(
            lambda: self.ledger.cancel(job_id, now=now), lambda: self.book.cancel(job_id, now)
        )

    @precondition(lambda self: self.steps % 4 == 1)
    @rule(which=WHICH)
    def poll_now(self, which: int) -> None:
        job_id, now = self.job(which), self.now
        self.compare(
            lambda: self.ledger.agenda.poll_now(job_id, now=now, interval_ms=10_000),
            lambda: self.book.poll_now(job_id, now, 10_000),
        )

    # Workers -------------------------------------------------------------------------------

    @rule(
        which=WHICH,
        wait=st.integers(0, 3),
        odd=st.integers(0, 7),
        lasts=st.sampled_from(WAITS),
        action=WORKER_ACTIONS,
    )
    def work(self, which: int, wait: int, odd: int, lasts: int, action: WorkerAction) -> None:
        """A worker claims a job. Mostly the job is due, and the step is right."""
        entries = self.book.entries
        open_ = [i for i in self.ids if i in entries and entries[i].due_at is not None]
        job_id = open_[which % len(open_)] if open_ and which < 10 else self.job(which)
        entry = entries.get(job_id)
        if entry and entry.due_at is not None and wait:
            self.clock.now = max(self.now, entry.due_at)
        step = STEP_OF.get(entry.job.status, Step.POLL) if entry else Step.SUBMIT
        if odd == 0:
            step = Step.POLL if step is Step.SUBMIT else Step.SUBMIT
        now, lasts = self.now, lasts or LEASE
        leases = []
        self.compare(
            lambda: leases.append(self.ledger.claim(job_id, step, now=now, lease_ms=lasts)),
            lambda: self.book.claim(
                job_id, str(self.recorder.calls[-1][6]), step, now=now, ends=now + lasts
            ),
        )
        for lease in leases:
            if not isinstance(lease, Lease):
                continue
            assert (lease.job, lease.ends_at) == (self.book.entries[job_id].job, now + lasts)
            self.leases.append(lease)
            self.record(lease, action)

    @precondition(lambda self: self.leases)
    @rule(which=WHICH, action=WORKER_ACTIONS)
    def record_again(self, which: int, action: WorkerAction) -> None:
        """A worker records a second result, or a late one. It may have lost its lease."""
        entries, leases = self.book.entries, self.leases[-8:]
        current = [
            lease
            for lease in leases
            if (entry := entries.get(lease.job.id)) and entry.newest == len(lease.job.attempts)
        ]
        among = current if current and which < 9 else leases
        self.record(among[which % len(among)], action)

    def record(self, lease: Lease, action: WorkerAction) -> None:
        job_id, token, attempts = lease.job.id, lease.token, lease.job.attempts
        now, due_at, tries = self.now, self.now + action.wait, action.wait % 7
        newest = attempts[-1] if attempts else Attempt(0, 0)
        number = newest.number
        plan: dict[str, Any] = {"now": now, "due_at": due_at, "tries": tries}
        if action.kind in ("deferred", "resubmitted") and attempts:
            self.compare(
                lambda: self.ledger.requeue(
                    lease, event=action.kind, detail={}, now=now, due_at=due_at, tries=tries
                ),
                lambda: self.book.requeue(
                    job_id, number, token, now=now, due_at=due_at, tries=tries, event=action.kind
                ),
            )
        elif action.kind == "refused" and attempts:
            self.compare(
                lambda: kit.refuse(self.ledger, lease, now=now),
                lambda: self.book.requeue(
                    *(job_id, number, token),
                    now=now,
                    due_at=now,
                    tries=1,
                    event="refused",
                    must_move=True,
                ),
            )
        elif action.kind == "unconfirmed" and attempts:
            self.compare(
                lambda: self.ledger.unconfirmed(lease, reason="reset", **plan),
                lambda: self.book.unconfirmed(
                    job_id, number, token, now=now, due_at=due_at, tries=tries
                ),
            )
        elif action.kind == "polled":
            self.compare(
                lambda: self.ledger.defer(
                    lease,
                    detail={},
                    now=now,
                    due_at=due_at,
                    tries=tries,
                    pending_failure=action.failure,
                ),
                lambda: self.book.defer(
                    job_id, token, now=now, due_at=due_at, tries=tries, failure=action.failure
                ),
            )
        elif action.kind == "settled":
            by, outcome = SettledBy.POLL, action.outcome
            self.compare(
                lambda: self.ledger.settle(lease, outcome, by, now=now),
                lambda: self.book.settle(
                    job_id, number, newest.task_id, outcome, now=now, by=by, token=token
                ),
            )

    # The provider --------------------------------------------------------------------------

    def sent(self, which: int, back: int) -> tuple[str, int]:
        """Pick an attempt of a job. Mostly it was sent."""
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
        due_at, task = now + wait, self.task(job_id, attempt, other)
        self.compare(
            lambda: self.ledger.accepted(job_id, attempt, task, now=now, due_at=due_at, cost=cost),
            lambda: self.book.accepted(job_id, attempt, task, now=now, due_at=due_at, cost=cost),
        )

    @rule(which=WHICH, back=BACK, other=OTHER,
          outcome=st.sampled_from(OUTCOMES))  # fmt: skip
    def settle_attempt(self, which: int, back: int, other: int, outcome: Outcome) -> None:
        (job_id, attempt), now = self.sent(which, back), self.now
        task, by = self.task(job_id, attempt, other), SettledBy.CALLBACK
        self.compare(
            lambda: self.ledger.settle_attempt(job_id, attempt, task, outcome, now=now),
            lambda: self.book.settle(job_id, attempt, task, outcome, now=now, by=by),
        )

    @rule(which=WHICH, back=BACK, other=OTHER,
          due_at=st.sampled_from([None, 0, 5_000]), wait=st.sampled_from(WAITS),
          failure=st.sampled_from(FAILURES), images=st.booleans())  # fmt: skip
    def observe(  # noqa: PLR0917  # hypothesis passes each by name
        self,
        which: int,
        back: int,
        other: int,
        due_at: int | None,
        wait: int,
        failure: PendingFailure | None,
        images: bool,
    ) -> None:
        (job_id, attempt), now = self.sent(which, back), self.now
        task, then = self.task(job_id, attempt, other), None if due_at is None else now + due_at
        self.compare(
            lambda: self.ledger.observe(
                job_id,
                attempt,
                task,
                now=now,
                due_at=then,
                fallback=now + wait,
                pending_failure=failure,
                may_have_images=images,
            ),
            lambda: self.book.observe(
                job_id,
                attempt,
                task,
                now=now,
                due_at=then,
                fallback=now + wait,
                failure=failure,
                images=images,
            ),
        )

    # Time and repeated calls ---------------------------------------------------------------

    @rule(jump=st.sampled_from(JUMPS))
    def time_passes(self, jump: int) -> None:
        self.clock.now += jump

    @precondition(lambda self: self.repeatable and self.steps % 3 == 0)
    @rule(which=WHICH)
    def repeat_a_call(self, which: int) -> None:
        again, model_call = self.repeatable[-1 - which % len(self.repeatable)]
        assert again()[0] == model_call()

    @precondition(lambda self: self.ended and self.steps % 5 == 0)
    @rule(which=WHICH, again=st.booleans())
    def retention_ends(self, which: int, again: bool) -> None:
        job_id = self.job(which)
        entry = self.book.entries.get(job_id)
        if entry and entry.expires:
            self.redis.delete(keys.job(job_id), keys.events(job_id))
            self.book.expire(job_id)
            self.repeatable = []  # no client repeats a call after the retention time
            if again:
                self.enqueue("a", 0, True)

    @precondition(lambda self: self.steps % 5 == 1)
    @rule(age=st.sampled_from([0, 10_000, HOUR]))
    def tidy(self, age: int) -> None:
        oldest = self.now - age
        assert self.ledger.overview.tidy(oldest=oldest) == self.book.tidy(oldest)

    # Invariants ----------------------------------------------------------------------------

    @invariant()
    def redis_equals_model(self) -> None:
        self.steps += 1
        ids = list(self.book.entries)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrange(keys.agenda(0), 0, -1, withscores=True)
            pipe.zrange(keys.unconfirmed(0), 0, -1, withscores=True)
            pipe.zrange(keys.jobs(0), 0, -1)
            pipe.hgetall(keys.counts(0))
            pipe.hmget(keys.batch(0, self.batch), *Status)
            pipe.hgetall(keys.open_batches(0))
            for job_id in ids:
                pipe.hgetall(keys.job(job_id))
                pipe.lrange(keys.events(job_id), 0, -1)
            agenda, unconfirmed, listed, counts, in_batch, open_batches, *jobs = pipe.execute()
        assert dict(agenda) == {
            i: e.due_at for i, e in self.book.entries.items() if e.due_at is not None
        }
        at_risk = self.book.at_risk.items()
        assert dict(unconfirmed) == {f"{a.job_id}.{a.attempt}": since for a, since in at_risk}
        assert listed == sorted(self.book.listed)
        numbers = {n: int(c) for n, c in counts.items() if c != "0" and n.isidentifier()}
        assert numbers == self.book.counts()
        known = {str(s): int(n) for s, n in zip(Status, in_batch, strict=True) if int(n or 0)}
        assert known == self.book.batches().get(self.batch, {})
        number = sum(n for status, n in known.items() if not Status(status).terminal)
        assert open_batches == ({self.batch: str(number)} if number else {})
        for job_id, fields, lines in zip(ids, jobs[::2], jobs[1::2], strict=True):
            entry = self.book.entries[job_id]
            assert codec.read_job(job_id, fields) == entry.job
            winner = None if entry.winner is None else str(entry.winner)
            assert (fields.get("lease"), fields.get("winner")) == (entry.lease, winner)
            assert [event.name for event in read_events(lines, fields)] == entry.events
            self.outcome_never_changes(entry.job)

    @invariant()
    def due_jobs_equal_model(self) -> None:
        due = {
            job_id: STEP_OF[entry.job.status]
            for job_id, entry in self.book.entries.items()
            if entry.due_at is not None and entry.due_at <= self.now
        }
        listed = self.ledger.agenda.due(0, now=self.now, limit=99)
        assert dict(listed) == due
        assert len(listed) == len(due)

    @invariant()
    def flights_equal_model(self) -> None:
        providers = ("hiapi", "evolink", "uniall")
        with self.redis.pipeline(transaction=False) as pipe:
            for provider in providers:
                pipe.zrange(keys.in_flight(0, provider), 0, -1)
            pipe.zrange(keys.deadlines(0), 0, -1)
            *in_flight, queued = pipe.execute()
        sets = dict(zip(providers, in_flight, strict=True))
        for provider, flying in sets.items():
            ids = {str(flight).partition(".")[0] for flight in cast(list[Any], flying)}
            assert {self.book.entries[job_id].provider for job_id in ids} <= {provider}
        flights = [str(f) for flying in sets.values() for f in cast(list[Any], flying)]
        entries = self.book.entries.items()
        no_task = (Status.QUEUED, Status.SUBMITTING, Status.UNCONFIRMED)
        assert set(queued) == {i for i, e in entries if e.job.status in no_task}
        sent = {i: e.newest for i, e in entries if STEP_OF.get(e.job.status) and e.newest}
        assert set(flights) >= {
            f"{i}.{n}"
            for i, n in sent.items()
            if self.book.entries[i].job.status is not Status.QUEUED
        }
        assert {flight.partition(".")[0] for flight in flights} <= sent.keys()

    def outcome_never_changes(self, job: Job) -> None:
        if job.status.terminal or job.id in self.ended:
            links = [(image.source_url, image.expires_at) for image in job.images]
            outcome = (job.status, links, job.error, job.settled_at, job.settled_by)
            assert self.ended.setdefault(job.id, outcome) == outcome

    @invariant()
    def verify_finds_no_breach(self) -> None:
        if self.steps % STEPS_PER_VERIFICATION == 0:
            self.verify()

    def verify(self) -> None:
        found = breaches(self.runtime)
        assert found == {
            ("not_overdue", job_id)
            for job_id, entry in self.book.entries.items()
            if entry.due_at is not None and self.now - entry.due_at > MAX_OVERDUE_MS
        } | {
            ("not_overdue", f"{job_id} {step}")
            for job_id, step in self.book.overdue(self.now - MAX_OVERDUE_MS)
        }


def breaches(runtime: Runtime) -> set[tuple[str, str]]:
    """Return what verify reports: the broken invariant, and the entry that breaks it."""
    verification = Verification(runtime)
    for _ in verification.run():
        pass
    return {(report.name, b) for report in verification.reports() for b in report.breaches}
