"""Compares the ledger on a real Redis with its model, for many sequences of calls."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, FollowUpStatus, SettledBy, Step
from orchestrator.ledger import Departure, Lease, Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import COPY, FAILURE, MOVING, NOTIFYING, NOW, SUCCESS
from tests.ledger.machine import (
    ACTION_KINDS,
    BACKS,
    COSTS,
    FAILURES,
    JUMPS,
    OUTCOMES,
    WAITS,
    WorkerAction,
    breaches,
)
from tests.ledger.machine_follow_ups import (
    AGES,
    FOLLOW_UP_ACTION_KINDS,
    FollowUpAction,
    FollowUpMachine,
)
from tests.support.fakes import Clock, Harness

pytestmark = pytest.mark.one_server

#: Sequences that hypothesis makes, and the maximum of their steps. It shortens a failing sequence.
HYPOTHESIS_RUNS, HYPOTHESIS_STEPS = 30, 40
#: Longer random sequences, and their steps.
RANDOM_RUNS, RANDOM_STEPS = 7, 250
#: Steps of a longer sequence between two comparisons of Redis with the model.
STEPS_PER_COMPARISON = 10


def test_the_ledger_equals_the_model(real_redis: Redis, harness: Harness) -> None:
    run_state_machine_as_test(
        lambda: FollowUpMachine(real_redis, harness.runtime),  # type: ignore[arg-type]
        settings=settings(
            max_examples=HYPOTHESIS_RUNS,
            stateful_step_count=HYPOTHESIS_STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


Rule = Callable[[FollowUpMachine, random.Random], object]


def worker_action(chance: random.Random) -> WorkerAction:
    return WorkerAction(
        chance.choice(ACTION_KINDS),
        chance.choice(WAITS),
        chance.choice(OUTCOMES),
        chance.choice(FAILURES),
    )


def follow_up_action(chance: random.Random) -> FollowUpAction:
    return FollowUpAction(chance.choice(FOLLOW_UP_ACTION_KINDS), chance.choice(WAITS))


#: The rules of the machine, and the weight of each.
RULES: Mapping[Rule, int] = {
    lambda m, c: m.enqueue(c.choice([None, "a", "b"]), c.randrange(4), c.random() < 0.5): 2,
    lambda m, c: m.cancel(c.randrange(12)): 1,
    lambda m, c: m.work(
        c.randrange(12), c.randrange(4), c.randrange(8), c.choice(WAITS), worker_action(c)
    ): 10,
    lambda m, c: m.leases and m.record_again(c.randrange(12), worker_action(c)): 5,
    lambda m, c: m.accepted(
        c.randrange(12), c.choice(BACKS), c.randrange(16), c.choice(WAITS), c.choice(COSTS)
    ): 3,
    lambda m, c: m.settle_attempt(
        c.randrange(12), c.choice(BACKS), c.randrange(16), c.choice(OUTCOMES)
    ): 4,
    lambda m, c: m.observe(
        c.randrange(12),
        c.choice(BACKS),
        c.randrange(16),
        c.choice([None, 0, 5]),
        c.choice(WAITS),
        c.choice(FAILURES),
        c.random() < 0.5,
    ): 4,
    lambda m, c: m.time_passes(c.choice(JUMPS)): 2,
    lambda m, c: m.repeatable and m.repeat_a_call(c.randrange(12)): 4,
    lambda m, c: m.ended and m.retention_ends(c.randrange(12), c.random() < 0.5): 4,
    lambda m, c: m.tidy(c.choice(WAITS)): 1,
    lambda m, c: m.follow(
        c.randrange(12), c.choice(FOLLOW_UPS), c.randrange(4), c.choice(WAITS), follow_up_action(c)
    ): 8,
    lambda m, c: m.followers and m.record_follow_up_again(c.randrange(12), follow_up_action(c)): 5,
    lambda m, c: m.notify_again(c.randrange(12)): 2,
    lambda m, c: m.archive_again(c.randrange(12)): 2,
    lambda m, c: m.forget(c.randrange(12), c.choice(AGES)): 2,
}


@pytest.mark.parametrize("seed", range(RANDOM_RUNS))
def test_the_ledger_equals_the_model_in_a_long_sequence(
    real_redis: Redis, harness: Harness, seed: int
) -> None:
    machine, chance = FollowUpMachine(real_redis, harness.runtime), random.Random(seed)
    machine.begin(seed % 2 == 0, [])
    rules = chance.choices(list(RULES), list(RULES.values()), k=RANDOM_STEPS)
    for number, rule in enumerate(rules, 1):
        rule(machine, chance)
        # What differs once differs until the end of the sequence, as a rule.
        if number % STEPS_PER_COMPARISON == 0:
            machine.redis_equals_model()
            machine.due_jobs_equal_model()
            machine.redis_equals_model_follow_ups()
            machine.due_follow_ups_equal_model()
            machine.fields_in_redis_are_valid()
            machine.verify()
    machine.teardown()


@dataclass
class ConcurrentCalls:
    """Many threads that work on the same few jobs. The clock advances at every reading."""

    ledger: Ledger
    ids: list[str]
    #: The job of each call that returned SETTLED or CANCELLED.
    settled: list[str] = field(default_factory=list)
    #: The follow-up of each call that returned RECORDED.
    ended: list[tuple[str, Step]] = field(default_factory=list)
    ticks: Iterator[int] = field(default_factory=itertools.count)

    def now(self) -> int:
        return NOW + next(self.ticks) * 400

    def work(self, chance: random.Random) -> None:
        job_id = chance.choice(self.ids)
        step, now = chance.choice([Step.SUBMIT, Step.SUBMIT, Step.POLL]), self.now()
        lease = self.ledger.claim(job_id, step, now=now, lease_ms=chance.choice([400, 20_000]))
        if not isinstance(lease, Lease):
            return
        plan: dict[str, Any] = {
            "now": self.now(),
            "due_at": now + chance.choice([0, 4_000]),
            "tries": 1,
        }
        number = len(lease.job.attempts)
        match chance.randrange(7):
            case 6:
                kit.refuse(self.ledger, lease, chance.choice([*Departure]), now=plan["now"])
            case 0:
                self.ledger.requeue(
                    lease,
                    event="deferred",
                    detail={},
                    now=plan["now"],
                    due_at=plan["due_at"],
                    tries=1,
                )
            case 1:
                self.ledger.unconfirmed(lease, reason="reset", **plan)
            case 2 | 3:
                task = f"task-{job_id}-{number}"
                self.ledger.accepted(job_id, number, task, now=now, due_at=now)
            case 4:
                self.ledger.defer(lease, detail={}, now=plan["now"], due_at=plan["due_at"], tries=1)
            case _ if chance.random() < 0.2:
                result = self.ledger.settle(lease, FAILURE, SettledBy.POLL, now=self.now()).result
                self.note(job_id, result)

    def send(self, chance: random.Random) -> None:
        job_id, number = chance.choice(self.ids), chance.randint(1, 4)
        task, now = f"task-{job_id}-{number}", self.now()
        if chance.random() < 0.9:
            self.ledger.observe(job_id, number, task, now=now, due_at=None, fallback=now)
        else:
            outcome = chance.choice([SUCCESS, FAILURE])
            settlement = self.ledger.settle_attempt(job_id, number, task, outcome, now=now)
            result = settlement.result
            self.note(job_id, result)

    def cancel_job(self, chance: random.Random) -> None:
        job_id = chance.choice(self.ids)
        self.note(job_id, self.ledger.cancel(job_id, now=self.now()).result)

    def follow(self, chance: random.Random) -> None:
        job_id, step, now = chance.choice(self.ids), chance.choice(FOLLOW_UPS), self.now()
        lease = self.ledger.follow_ups.claim(
            job_id, step, now=now, lease_ms=chance.choice([400, 20_000])
        )
        if lease is None:
            return
        if chance.random() < 0.7:
            due_at = now + chance.choice([0, 4_000])
            self.ledger.follow_ups.later(lease, step, now=now, due_at=due_at, tries=1, error="503")
            return
        images = lease.job.all_images if step is Step.ARCHIVE else ()
        copied = tuple(replace(image, copy=COPY) for image in images)
        result = self.ledger.follow_ups.done(
            lease, step, FollowUpStatus.DONE, now=now, tries=1, images=copied
        )
        if result is Result.RECORDED:
            self.ended.append((job_id, step))

    def note(self, job_id: str, result: Result) -> None:
        if result in (Result.SETTLED, Result.CANCELLED):
            self.settled.append(job_id)


def test_many_threads_on_the_same_few_jobs_keep_the_invariants(
    shared_ledger: Ledger, real_redis: Redis, harness: Harness
) -> None:
    ids = [kit.create(shared_ledger, request) for request in (NOTIFYING, MOVING) * 3]
    calls = ConcurrentCalls(shared_ledger, ids)
    roles = [calls.work] * 4 + [calls.send] * 3 + [calls.cancel_job] + [calls.follow] * 3
    start = threading.Barrier(len(roles))

    def run(number: int) -> None:
        chance = random.Random(number)
        start.wait(kit.WAIT_SECONDS)
        for _ in range(120):
            roles[number](chance)

    with real_redis.pubsub() as listener:
        listener.psubscribe("{orch*:settled:*")
        listener.get_message(timeout=kit.WAIT_SECONDS)
        with ThreadPoolExecutor(len(roles)) as pool:
            list(pool.map(run, range(len(roles))))
        announced = kit.announced_outcomes(real_redis, listener)

    settled = {job_id: 1 for job_id in ids if kit.job(shared_ledger, job_id).status.terminal}
    assert settled
    for (job_id, _), times in Counter(calls.ended).items():
        late_results = kit.event_names(shared_ledger, job_id).count("late_result")
        assert times <= 1 + late_results, "each follow-up ended once"
    assert Counter(calls.settled) == settled, "each job was settled once"
    assert announced == {keys.settled(job_id): 1 for job_id in settled}
    found = breaches(replace(harness.runtime, ledger=shared_ledger, clock=Clock(calls.now())))
    # Nothing sweeps here, so a thread that ends late leaves follow-ups that are overdue.
    assert {(name, entry) for name, entry in found if name != "not_overdue"} == set()
    kit.check_counts(shared_ledger, real_redis)
    for job_id in ids:
        kit.check_job(real_redis, job_id)
