"""The ledger on a real Redis against the model in plain Python, whoever does whatever when."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, FollowUpStatus, SettledBy, Step
from orchestrator.ledger import Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import COPIED, FAILURE, NOTIFYING, NOW, SUCCESS
from tests.ledger.machine import BACKS, COSTS, DONE, JUMPS, OUTCOMES, WAITS, Doing, breaches
from tests.ledger.machine_follow_ups import AGES, FOLLOWED, Following, FollowingMachine
from tests.support.fakes import Clock, Harness

#: How many lives hypothesis makes up, each of so many steps at most, and how many plain chance,
#: which goes further but cannot say it shorter. About 5 s each.
LIVES, STEPS = 40, 40
RANDOM_RUNS, RANDOM_STEPS = 20, 250


def test_the_ledger_does_what_the_model_does(real_redis: Redis, harness: Harness) -> None:
    run_state_machine_as_test(
        lambda: FollowingMachine(real_redis, harness.runtime),  # type: ignore[arg-type]
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


Act = Callable[[FollowingMachine, random.Random], object]


def doing(chance: random.Random) -> Doing:
    return Doing(chance.choice(DONE), chance.choice(WAITS), chance.choice(OUTCOMES))


def following(chance: random.Random) -> Following:
    return Following(chance.choice(FOLLOWED), chance.choice(WAITS))


#: What may happen in a long life, and how often.
ACTS: Mapping[Act, int] = {
    lambda m, c: m.enqueue(c.choice([None, "a", "b"]), c.randrange(4)): 2,
    lambda m, c: m.cancel(c.randrange(12)): 1,
    lambda m, c: m.work(
        c.randrange(12), c.randrange(4), c.randrange(8), c.choice(WAITS), doing(c)
    ): 10,
    lambda m, c: m.leases and m.come_back(c.randrange(12), doing(c)): 5,
    lambda m, c: m.accepted(
        c.randrange(12), c.choice(BACKS), c.randrange(16), c.choice(WAITS), c.choice(COSTS)
    ): 3,
    lambda m, c: m.call_back(
        c.randrange(12), c.choice(BACKS), c.randrange(16), c.choice(OUTCOMES)
    ): 4,
    lambda m, c: m.tell_news(
        c.randrange(12), c.choice(BACKS), c.randrange(16), c.choice([None, 0, 5]), c.choice(WAITS)
    ): 2,
    lambda m, c: m.time_passes(c.choice(JUMPS)): 2,
    lambda m, c: m.repeatable and m.the_wire_repeats_a_call(c.randrange(12)): 4,
    lambda m, c: m.ended and m.retention_ends(c.randrange(12), c.random() < 0.5): 4,
    lambda m, c: m.tidy(c.choice(WAITS)): 1,
    lambda m, c: m.follow(
        c.randrange(12), c.choice(FOLLOW_UPS), c.randrange(4), c.choice(WAITS), following(c)
    ): 8,
    lambda m, c: m.followers and m.follow_late(c.randrange(12), following(c)): 5,
    lambda m, c: m.notify_again(c.randrange(12)): 2,
    lambda m, c: m.forget(c.randrange(12), c.choice(AGES)): 1,
}


@pytest.mark.parametrize("seed", range(RANDOM_RUNS))
def test_the_ledger_does_what_the_model_does_all_a_long_life(
    real_redis: Redis, harness: Harness, seed: int
) -> None:
    machine, chance = FollowingMachine(real_redis, harness.runtime), random.Random(seed)
    machine.begin(seed % 2 == 0, [])
    for act in chance.choices(list(ACTS), list(ACTS.values()), k=RANDOM_STEPS):
        act(machine, chance)
        machine.redis_holds_what_the_book_says()
        machine.what_is_due_is_nudged()
        machine.redis_holds_what_follows()
        machine.what_follows_is_due()
        machine.what_should_follow_is_known()
        machine.the_promise_is_verified()
    machine.teardown()


@dataclass
class Crowd:
    """Many threads at the same few jobs, on a clock that runs with every look at it."""

    ledger: Ledger
    ids: list[str]
    #: Who was told that the job is settled.
    settled: list[str] = field(default_factory=list)
    #: Who was told that the follow-up is done.
    followed: list[tuple[str, Step]] = field(default_factory=list)
    ticks: Iterator[int] = field(default_factory=itertools.count)

    def now(self) -> int:
        return NOW + next(self.ticks) * 400

    def work(self, chance: random.Random) -> None:
        job_id = chance.choice(self.ids)
        step, now = chance.choice([Step.SUBMIT, Step.SUBMIT, Step.POLL]), self.now()
        lease = self.ledger.claim(job_id, step, now=now, lease_ms=chance.choice([400, 20_000]))
        if lease is None:
            return
        plan = {"now": self.now(), "due_at": now + chance.choice([0, 4_000]), "tries": 1}
        number = len(lease.job.attempts)
        match chance.randrange(6):
            case 0:
                self.ledger.requeue(lease, event="deferred", detail={}, **plan)
            case 1:
                self.ledger.unconfirmed(lease, reason="reset", **plan)
            case 2 | 3:
                task = f"task-{job_id}-{number}"
                self.ledger.accepted(job_id, number, task, now=now, due_at=now)
            case 4:
                self.ledger.defer(lease, detail={}, **plan)
            case _ if chance.random() < 0.2:
                result = self.ledger.settle(lease, FAILURE, SettledBy.POLL, now=self.now()).result
                self.told(job_id, result)

    def send(self, chance: random.Random) -> None:
        job_id, number = chance.choice(self.ids), chance.randint(1, 4)
        task, now = f"task-{job_id}-{number}", self.now()
        if chance.random() < 0.9:
            self.ledger.observe(job_id, number, task, now=now, due_at=None, fallback=now)
        else:
            outcome = chance.choice([SUCCESS, FAILURE])
            settlement = self.ledger.settle_attempt(job_id, number, task, outcome, now=now)
            result = settlement.result
            self.told(job_id, result)

    def cancel_job(self, chance: random.Random) -> None:
        job_id = chance.choice(self.ids)
        self.told(job_id, self.ledger.cancel(job_id, now=self.now()).result)

    def follow(self, chance: random.Random) -> None:
        job_id, step, now = chance.choice(self.ids), chance.choice(FOLLOW_UPS), self.now()
        lease = self.ledger.follow_ups.claim(
            job_id, step, now=now, lease_ms=chance.choice([400, 20_000])
        )
        if lease is None:
            return
        if chance.random() < 0.7:
            look = now + chance.choice([0, 4_000])
            self.ledger.follow_ups.later(lease, step, now=now, due_at=look, tries=1, error="503")
            return
        images = COPIED if step is Step.ARCHIVE else ()
        result = self.ledger.follow_ups.done(
            lease, step, FollowUpStatus.DONE, now=now, tries=1, images=images
        )
        if result is Result.RECORDED:
            self.followed.append((job_id, step))

    def told(self, job_id: str, result: Result) -> None:
        if result in (Result.SETTLED, Result.CANCELLED):
            self.settled.append(job_id)


def test_a_crowd_at_the_same_few_jobs_keeps_the_promise(
    crowd: Ledger, real_redis: Redis, harness: Harness
) -> None:
    lost = [kit.create(crowd, NOTIFYING) for _ in range(6)]
    hammered = Crowd(crowd, lost)
    parts = [hammered.work] * 4 + [hammered.send] * 3 + [hammered.cancel_job]
    parts += [hammered.follow] * 3
    start = threading.Barrier(len(parts))

    def hammer(number: int) -> None:
        chance = random.Random(number)
        start.wait(10)
        for _ in range(120):
            parts[number](chance)

    with real_redis.pubsub() as heard:  # type: ignore[no-untyped-call]
        heard.psubscribe("{orch*:settled:*")
        heard.get_message(timeout=2)
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(hammer, range(len(parts))))
        told = iter(lambda: heard.get_message(timeout=0.05), None)
        announced = Counter(str(message["channel"]) for message in told)

    over = {job_id: 1 for job_id in lost if kit.job(crowd, job_id).status.terminal}
    assert over
    assert set(Counter(hammered.followed).values()) <= {1}, "each follow-up was done once"
    assert Counter(hammered.settled) == over, "each outcome was given once"
    assert announced == {keys.settled(job_id): 1 for job_id in over}
    clock = Clock(hammered.now())
    assert breaches(replace(harness.runtime, ledger=crowd, clock=clock)) == set()
    kit.count_right(crowd, real_redis)
    for job_id in lost:
        kit.invariant(real_redis, job_id)
