"""Measures how often a job without a callback is polled, and how late its result is seen.

The ledger runs with a simulated clock. The tasks of several models run for times that differ and
drift. They are polled twice. The fixed schedule begins after the provider's interval, and doubles
the wait after each poll. The schedule of the product learns. Goals at each provider: half of the
polls, and the results are not seen later, neither in the mean nor in the 95th percentile. After a
provider becomes twice as fast at once, results are seen late for a while. This is shown, and has no
goal.
"""

from __future__ import annotations

import heapq
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, quantiles
from typing import Protocol, cast

from redis import Redis

from benchmarks.report import Report, progress, ratios
from orchestrator.backoff import back_off, first_poll_delay, running_wait
from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.jobs.model import ErrorCode, Image, JobError, Outcome, SettledBy, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import FirstPoll, LearnedWait, Lease, Ledger, keys
from orchestrator.ledger.durations import AS_PLANNED
from orchestrator.providers import BUILT_IN, Provider

#: The polls of the product as a part of those of the fixed schedule.
GOAL = 0.5
#: The delay of the product as a part of that of the fixed schedule.
MAX_DELAY = 1.0
#: Tasks of each model, and their number per second.
TASKS, TASKS_PER_SECOND = 800, 0.3
#: The models of the first two providers without callbacks: the median run time in seconds, and the
#: standard deviation of its logarithm.
RUN_TIMES = ([(12.0, 0.25), (40.0, 0.3)], [(25.0, 0.3)])
_WITHOUT_CALLBACKS = (name for name, each in BUILT_IN.items() if not each.capabilities.callbacks)
MODELS = dict(zip(_WITHOUT_CALLBACKS, RUN_TIMES, strict=False))
#: The part of the tasks that fail within 1 to 3 s, and of those that take 3 to 8 times as long.
FAILING, STUCK = 0.005, 0.005
#: The longest time until a sweep takes a due job. Seconds.
SWEEP_SECONDS = 1.0
#: The simulated time of the first task. ms.
BEGIN = 1_800_000_000_000
DONE = Outcome.succeeded((Image("https://images.example/0.png", BEGIN + 86_400_000),))
REFUSED = Outcome.failed(JobError(ErrorCode.CONTENT_POLICY, "refused"))


@dataclass(frozen=True)
class Task:
    """A task: when it is submitted, and how long it runs. Seconds."""

    model: str
    submitted: float
    runs: float
    fails: bool


class Schedule(Protocol):
    """When the polls of a job are due."""

    def first(self, provider: Provider, now: int) -> tuple[int, FirstPoll]:
        """Return the time of the first poll (ms), and which learned time replaces it."""

    def wait(self, provider: Provider, polls: int, elapsed: float) -> float:
        """Return the wait after a poll that saw the task run. Seconds."""


@dataclass
class Fixed:
    """Doubles the wait after each poll."""

    random: random.Random

    def first(self, provider: Provider, now: int) -> tuple[int, FirstPoll]:
        """Return the provider's interval."""
        return now + int(provider.poll_seconds * 1000), AS_PLANNED

    def wait(self, provider: Provider, polls: int, elapsed: float) -> float:
        """Return a wait that doubles with each poll."""
        return back_off(
            polls - 1, provider.poll_seconds, provider.max_poll_seconds, self.random.random
        )


@dataclass
class Learning:
    """The schedule of the product."""

    random: random.Random

    def first(self, provider: Provider, now: int) -> tuple[int, FirstPoll]:
        """Return the provider's interval, and the learned time."""
        wait = first_poll_delay(estimate=None, grace=None, poll=provider.poll_seconds)
        due_at = now + int(wait * 1000)
        return due_at, FirstPoll(LearnedWait.EARLY, due_at)

    def wait(self, provider: Provider, polls: int, elapsed: float) -> float:
        """Return a wait that grows with the time of the task."""
        return running_wait(
            elapsed, provider.poll_seconds, provider.max_poll_seconds, self.random.random
        )


@dataclass
class Measured:
    """The polls of each job, and the time from each result to the settled job in seconds."""

    polls: list[int] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    @property
    def p95(self) -> float:
        """The delay that 95 of 100 jobs do not exceed."""
        return quantiles(self.delays, n=20)[-1]


#: The figures: name, value and unit.
FIGURES: tuple[tuple[str, Callable[[Measured], float], str], ...] = (
    ("polls per job", lambda measured: mean(measured.polls), "polls"),
    ("mean delay of a result", lambda measured: mean(measured.delays), "s"),
    ("95th percentile of the delay", lambda measured: measured.p95, "s"),
)
DRIFTS: dict[str, Callable[[float], float]] = {
    "steady": lambda _: 1.0,
    "30 % up and down": lambda part: 1 + 0.3 * math.sin(4 * math.pi * part),
    "twice as slow for a third": lambda part: 2.0 if 1 / 3 < part < 2 / 3 else 1.0,
}


def tasks_of(provider: str, drift: Callable[[float], float], seed: int) -> Iterator[Task]:
    """Yield the tasks of a provider's models."""
    chance = random.Random(seed)
    for number, (median, spread) in enumerate(MODELS[provider]):
        submitted = 0.0
        for i in range(TASKS):
            submitted += chance.expovariate(TASKS_PER_SECOND)
            runs = median * drift(i / TASKS) * math.exp(chance.normalvariate(0, spread))
            kind = chance.random()
            if kind < FAILING:
                runs = chance.uniform(1, 3)
            elif kind < FAILING + STUCK:
                runs *= chance.uniform(3, 8)
            yield Task(f"model-{number}", submitted, runs, kind < FAILING)


class Simulation:
    """Polls the tasks of a provider by a schedule, on an empty database.

    Args:
        redis: the database.
        provider: whose intervals hold.
        schedule: when the polls are due.
    """

    def __init__(self, redis: Redis, provider: Provider, schedule: Schedule) -> None:
        self._redis = redis
        self._ledger = Ledger(lambda: redis)
        self._provider = provider
        self._schedule = schedule
        self.measured = Measured()

    def run(self, tasks: Sequence[Task]) -> Measured:
        """Poll each task until its result is seen."""
        self._redis.flushdb()
        chance = random.Random(1)
        due = [(task.submitted, number, "") for number, task in enumerate(tasks)]
        heapq.heapify(due)
        while due:
            at, number, job_id = heapq.heappop(due)
            task, now = tasks[number], BEGIN + int(at * 1000)
            if job_id:
                next_at = self._poll(job_id, task, now)
            else:
                job_id, next_at = self._submit(task, now)
            if next_at:
                seconds = (next_at - BEGIN) / 1000 + chance.random() * SWEEP_SECONDS
                heapq.heappush(due, (seconds, number, job_id))
        return self.measured

    def _submit(self, task: Task, now: int) -> tuple[str, int]:
        """Submit a task. Return its job, and when it is polled first (ms)."""
        wanted = JobRequest(self._provider.name, task.model, {"prompt": "A lighthouse at dusk"})
        job_id = self._ledger.create(wanted, now=now, deadline_at=now + 3_600_000).job_id
        self._ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
        due_at, first = self._schedule.first(self._provider, now)
        self._ledger.accepted(job_id, 1, job_id, now=now, due_at=due_at, first_poll=first)
        score = self._redis.zscore(keys.agenda(0), job_id)
        return job_id, int(cast(float, score))

    def _poll(self, job_id: str, task: Task, now: int) -> int | None:
        """Poll a task. Return when it is polled again (ms), or None if it has ended."""
        lease = self._ledger.claim(job_id, Step.POLL, now=now, lease_ms=60_000)
        assert isinstance(lease, Lease)
        elapsed, polls = (now - BEGIN) / 1000 - task.submitted, lease.job.tries + 1
        if elapsed >= task.runs:
            self._ledger.settle(lease, REFUSED if task.fails else DONE, SettledBy.POLL, now=now)
            self.measured.polls.append(polls)
            self.measured.delays.append(elapsed - task.runs)
            return None
        due_at = now + int(self._schedule.wait(self._provider, polls, elapsed) * 1000)
        self._ledger.defer(lease, now=now, due_at=due_at, tries=polls, detail={}, running=True)
        return due_at


def run() -> Report:
    """Measure both schedules at each provider."""
    report = Report("polls", f"{TASKS} tasks of each model without a callback, simulated clock")
    with tempfile.TemporaryDirectory() as folder, embedded_redis(Path(folder)) as url:
        for name in MODELS:
            _measure(report, url, BUILT_IN[name])
    return report


def _measure(report: Report, url: str, provider: Provider) -> None:
    """Add the figures of a provider. The values of a series are those of the drifts."""
    fixed, learning = (
        [_simulate(url, provider, kind, drift) for drift in DRIFTS] for kind in (Fixed, Learning)
    )
    for label, figure, unit in FIGURES:
        before, now = ([figure(each) for each in measured] for measured in (fixed, learning))
        group = f"{provider.name}: {label} ({', '.join(DRIFTS)})"
        report.add(group, unit, {"fixed schedule": before, "learned": now})
        ratio = mean(ratios(now, before)[:-1])  # without the abrupt change
        limit = GOAL if unit == "polls" else MAX_DELAY
        report.goal(f"{provider.name}: {label}, learned / fixed:", ratio, limit, at_least=False)


def _simulate(
    url: str, provider: Provider, kind: Callable[[random.Random], Schedule], drift: str
) -> Measured:
    tasks = list(tasks_of(provider.name, DRIFTS[drift], seed=3))
    with Redis.from_url(url, decode_responses=True) as redis:
        measured = Simulation(redis, provider, kind(random.Random(2))).run(tasks)
    progress(f"{provider.name}, {drift}: {mean(measured.polls):.2f} polls per job")
    return measured
