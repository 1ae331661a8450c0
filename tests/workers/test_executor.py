"""The places of one kind of work: who gets one, who is left out, and what a stop leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable
from orchestrator.step_loop import StepLoop, in_thread
from tests.ledger.kit import eventually
from workers.executor import StepExecutor

JOBS = [f"job-{number}" for number in range(5)]


Make = Callable[..., StepExecutor]


@pytest.fixture
def executor(steps: StepLoop) -> Make:
    """Return a function that makes an executor. Its steps run in threads, so they may block."""

    def make(run: Callable[[Step, str], None], places: int = 4, **options: Any) -> StepExecutor:
        options = {"stopping": lambda: False, **options}

        def step(step: Step, job_id: str) -> None:
            in_thread(run, step, job_id)

        return StepExecutor(step, places=places, loop=steps, **options)

    return make


def hold(arrived: threading.Event, go_on: threading.Event) -> None:
    """Keep a loop from beginning a step."""
    arrived.set()
    go_on.wait(60)


@pytest.fixture
def busy(steps: StepLoop) -> Iterator[threading.Event]:
    """Keep the loop from beginning a step until the event is set."""
    go_on, arrived = threading.Event(), threading.Event()

    steps.start(partial(hold, arrived, go_on))
    assert arrived.wait(60)
    yield go_on
    go_on.set()


@dataclass
class Slow:
    """A step that runs until `go_on` is set. It records the jobs that it began."""

    begun: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, _: Step, job_id: str) -> None:
        self.begun.append(job_id)
        self.arrived.release()
        self.go_on.wait(60)

    def wait_for(self, steps: int) -> None:
        for _ in range(steps):
            assert self.arrived.acquire(timeout=60)


@pytest.fixture
def slow() -> Iterator[Slow]:
    step = Slow()
    yield step
    step.go_on.set()


def many(count: int) -> list[str]:
    return [f"job-{number:03}" for number in range(count)]


def eventually_drained(workers: StepExecutor) -> list[str]:
    """Return what is left once only one job is left, or what is left after a minute."""
    for _ in range(600):
        if len(left := workers.drain(0.1)) == 1:
            break
    return left


# Running -------------------------------------------------------------------------------------


def test_steps_run_at_the_same_time(executor: Make) -> None:
    together = threading.Barrier(len(JOBS) + 1)
    workers = executor(lambda *_: (together.wait(60), None)[1], places=len(JOBS))
    workers.offer(Step.POLL, JOBS)
    together.wait(60)
    assert workers.drain(60) == []


@pytest.mark.parametrize(
    ("error", "reason"), [(LedgerUnavailable("away"), "away"), (KeyError("a fault"), "crash")]
)
def test_a_step_that_fails_is_counted_and_does_not_stop_the_others(
    executor: Make, error: Exception, reason: str
) -> None:
    done, failures = [], []

    def run(_: Step, job_id: str) -> None:
        if job_id == JOBS[0]:
            raise error
        done.append(job_id)

    workers = executor(run, places=5, count=lambda *failure: failures.append(failure))
    workers.offer(Step.SUBMIT, JOBS)
    assert workers.drain(60) == []
    assert sorted(done) == JOBS[1:]
    assert failures == [(Step.SUBMIT, reason)]


# Places --------------------------------------------------------------------------------------


def test_offering_returns_at_once_and_leaves_out_jobs_without_a_place(
    executor: Make, slow: Slow
) -> None:
    workers = executor(slow, places=4)

    for _ in range(3):
        workers.offer(Step.SUBMIT, many(100))  # returns, although no step ends

    slow.wait_for(4)
    assert workers.room() == 0
    slow.go_on.set()
    assert workers.drain(60) == []
    assert sorted(slow.begun) == many(4)


def test_a_job_whose_step_will_begin_is_not_begun_twice(
    executor: Make, slow: Slow, busy: threading.Event
) -> None:
    workers = executor(slow, places=8)
    workers.offer(Step.SUBMIT, many(2))

    for _ in range(3):
        workers.offer(Step.SUBMIT, ["waits"])
    workers.offer(Step.POLL, ["waits"])  # another step of the same job is other work

    busy.set()
    slow.go_on.set()
    assert workers.drain(60) == []
    assert sorted(slow.begun) == [*many(2), "waits", "waits"]


def test_the_room_has_space_for_jobs_that_wait_because_a_sweep_lists_them_again(
    executor: Make, slow: Slow, steps: StepLoop
) -> None:
    workers = executor(slow, places=8)
    assert workers.room() == 8
    workers.offer(Step.SUBMIT, many(4))
    slow.wait_for(4)
    held, go_on = threading.Event(), threading.Event()
    steps.start(partial(hold, held, go_on))
    assert held.wait(60)
    workers.offer(Step.SUBMIT, many(6)[4:])

    room = workers.room()
    workers.offer(Step.SUBMIT, many(8)[4:])  # what a sweep lists: two jobs wait, two are new

    assert room == 4
    assert workers.room() == 0
    go_on.set()


@pytest.mark.parametrize(
    ("claims_at_once", "room", "begun"), [(True, 7, [0, 0, 1]), (False, 8, [0, 1])]
)
def test_a_job_whose_running_step_has_not_claimed_it_is_not_started_again(
    executor: Make, slow: Slow, *, claims_at_once: bool, room: int, begun: list[int]
) -> None:
    """A sweep lists it again, and before the others."""
    workers = executor(slow, places=8, claims_at_once=claims_at_once)
    workers.offer(Step.ARCHIVE, JOBS[:1])
    slow.wait_for(1)
    assert workers.room() == room

    workers.offer(Step.ARCHIVE, JOBS[:2])
    slow.wait_for(len(begun) - 1)

    assert sorted(slow.begun) == [JOBS[number] for number in begun]


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), KeyError("a fault of ours")])
def test_steps_that_fail_free_their_places(executor: Make, error: Exception) -> None:
    begun = threading.Semaphore(0)

    def run(*_: object) -> None:
        begun.release()
        raise error

    workers = executor(run, places=1)
    for _ in range(20):
        workers.offer(Step.NOTIFY, JOBS[:1])
        assert begun.acquire(timeout=60)
        assert workers.drain(60) == []


def test_it_asks_for_more_once_it_was_full_and_a_quarter_of_its_places_is_free(
    executor: Make, slow: Slow
) -> None:
    asked = threading.Semaphore(0)
    workers = executor(slow, places=8, refill=asked.release)
    workers.offer(Step.SUBMIT, many(8))
    assert not workers.refillable()

    slow.go_on.set()

    assert asked.acquire(timeout=60)
    assert workers.drain(60) == []
    assert workers.refillable()
    assert workers.room() == 8
    assert not workers.refillable(), "a sweep has looked for more"


def test_it_asks_for_more_only_when_a_quarter_of_all_places_is_free(
    executor: Make, slow: Slow
) -> None:
    workers = executor(slow, places=8, share=1 / 2)
    for step in (Step.SUBMIT, Step.POLL):
        workers.offer(step, many(4))
    workers._held[Step.SUBMIT] -= 1  # each step uses 3 or 4 of its 4 places
    workers._held[Step.POLL] -= 1

    assert workers.refillable()
    workers._held[Step.CONFIRM] += 1

    assert not workers.refillable(), "7 of 8 places are used"
    workers._held.update({Step.SUBMIT: 1, Step.POLL: 1, Step.CONFIRM: -1})
    slow.go_on.set()


def test_it_asks_for_nothing_while_it_was_never_full(executor: Make, slow: Slow) -> None:
    asked: list[int] = []
    workers = executor(slow, places=8, refill=lambda: asked.append(1))
    workers.offer(Step.SUBMIT, many(7))
    slow.go_on.set()

    assert workers.drain(60) == []
    assert asked == []


# Stopping ------------------------------------------------------------------------------------


def test_a_drain_waits_for_the_steps_that_began(executor: Make) -> None:
    go_on, done = threading.Event(), []

    def run(_: Step, job_id: str) -> None:
        go_on.wait(60)
        done.append(job_id)

    workers = executor(run)
    workers.offer(Step.POLL, JOBS[:3])
    threading.Timer(0.1, go_on.set).start()
    assert workers.drain(60) == []
    assert sorted(done) == JOBS[:3]


def test_a_process_that_is_to_stop_begins_no_further_step(
    executor: Make, slow: Slow, busy: threading.Event
) -> None:
    stop = threading.Event()
    workers = executor(slow, places=8, stopping=stop.is_set)
    workers.offer(Step.NOTIFY, many(4))

    stop.set()
    workers.offer(Step.NOTIFY, ["too late"])
    assert workers.room() == 0
    busy.set()

    assert workers.drain(60) == []
    assert slow.begun == []


def test_only_steps_that_began_are_named_as_unfinished(
    executor: Make, slow: Slow, steps: StepLoop
) -> None:
    stop, held, go_on = threading.Event(), threading.Event(), threading.Event()
    workers = executor(slow, places=8, stopping=stop.is_set)
    workers.offer(Step.NOTIFY, many(1))
    slow.wait_for(1)
    steps.start(partial(hold, held, go_on))
    assert held.wait(60)
    workers.offer(Step.NOTIFY, many(2)[1:])

    stop.set()

    assert workers.drain(0.05) == many(1)
    go_on.set()


def test_a_step_that_does_not_end_in_time_is_named(executor: Make) -> None:
    go_on, done = threading.Event(), threading.Barrier(3)

    def run(_: Step, job_id: str) -> None:
        go_on.wait(60) if job_id == JOBS[0] else done.wait(60)

    workers = executor(run)
    workers.offer(Step.POLL, JOBS[:3])
    done.wait(60)
    # The two other steps still have to report that they ended.
    assert JOBS[:1] == eventually_drained(workers)
    go_on.set()


def test_a_drain_waits_for_a_step_whose_job_was_begun_again(executor: Make) -> None:
    go_on, begun, again = threading.Event(), threading.Event(), threading.Event()

    def run(_: Step, __: str) -> None:
        if begun.is_set():
            again.set()  # the first step has the lease
        else:
            begun.set()
            go_on.wait(60)

    workers = executor(run)
    workers.offer(Step.SUBMIT, JOBS[:1])
    assert begun.wait(60)
    workers.offer(Step.SUBMIT, JOBS[:1])
    assert again.wait(60)
    eventually(lambda: workers.room() == workers.places - 1)

    assert workers.drain(0) == JOBS[:1]
    go_on.set()
    assert workers.drain(60) == []


def test_an_executor_without_jobs_has_nothing_to_drain(executor: Make) -> None:
    assert executor(lambda *_: None).drain(0) == []


def test_a_job_whose_step_could_not_be_started_is_taken_the_next_time(
    executor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step loop starts with its first step. There may be too many open files then."""
    done = threading.Event()
    workers = executor(lambda *_: done.set(), places=1)
    with monkeypatch.context() as full:
        full.setattr("asyncio.new_event_loop", partial(os.open, "/no such folder/file", 0))
        with pytest.raises(OSError, match="No such file"):
            workers.offer(Step.SUBMIT, JOBS[:1])

    workers.offer(Step.SUBMIT, JOBS[:1])

    assert done.wait(60)
    assert workers.drain(60) == []
