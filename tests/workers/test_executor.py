"""The threads of one kind of work: who gets a place, who is left out, and what a stop leaves."""

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
from orchestrator.step_loop import StepLoop
from workers.executor import StepExecutor

JOBS = [f"job-{number}" for number in range(5)]


def executor(run: Callable[[Step, str], None], threads: int = 4, **options: Any) -> StepExecutor:
    return StepExecutor(run, stopping=lambda: False, threads=threads, **options)


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


def test_steps_run_at_the_same_time() -> None:
    together = threading.Barrier(len(JOBS) + 1)
    workers = executor(lambda *_: (together.wait(60), None)[1], threads=len(JOBS))
    workers.offer(Step.POLL, JOBS)
    together.wait(60)
    assert workers.drain(60) == []


@pytest.mark.parametrize(
    ("error", "reason"), [(LedgerUnavailable("away"), "away"), (KeyError("a fault"), "crash")]
)
def test_a_step_that_fails_is_counted_and_does_not_stop_the_others(
    error: Exception, reason: str
) -> None:
    done, failures = [], []

    def run(_: Step, job_id: str) -> None:
        if job_id == JOBS[0]:
            raise error
        done.append(job_id)

    workers = executor(run, threads=3, count=lambda *failure: failures.append(failure))
    workers.offer(Step.SUBMIT, JOBS)
    assert workers.drain(60) == []
    assert sorted(done) == JOBS[1:]
    assert failures == [(Step.SUBMIT, reason)]


# Places --------------------------------------------------------------------------------------


def test_offering_returns_at_once_and_leaves_out_jobs_without_a_place(slow: Slow) -> None:
    workers = executor(slow, threads=2)

    for _ in range(3):
        workers.offer(Step.SUBMIT, many(100))  # returns, although no step ends

    slow.wait_for(2)
    assert workers.room() == 0
    slow.go_on.set()
    assert workers.drain(60) == []
    assert sorted(slow.begun) == many(4)


def test_a_job_that_waits_is_not_queued_twice(slow: Slow) -> None:
    workers = executor(slow, threads=2)
    workers.offer(Step.SUBMIT, many(2))
    slow.wait_for(2)

    for _ in range(3):
        workers.offer(Step.SUBMIT, ["waits"])
    workers.offer(Step.POLL, ["waits"])  # another step of the same job is other work

    slow.go_on.set()
    assert workers.drain(60) == []
    assert sorted(slow.begun) == [*many(2), "waits", "waits"]


def test_the_room_has_space_for_jobs_that_wait_because_a_sweep_lists_them_again(
    slow: Slow,
) -> None:
    workers = executor(slow, threads=4)
    assert workers.room() == 8
    workers.offer(Step.SUBMIT, many(6))
    slow.wait_for(4)

    room = workers.room()
    workers.offer(Step.SUBMIT, many(8)[4:])  # what a sweep lists: two jobs wait, two are new

    assert room == 4
    assert workers.room() == 0


@pytest.mark.parametrize(
    ("claims_at_once", "room", "begun"), [(True, 7, [0, 0, 1]), (False, 8, [0, 1])]
)
def test_a_job_whose_running_step_has_not_claimed_it_is_not_started_again(
    slow: Slow, *, claims_at_once: bool, room: int, begun: list[int]
) -> None:
    """A sweep lists it again, and before the others."""
    workers = executor(slow, threads=4, claims_at_once=claims_at_once)
    workers.offer(Step.ARCHIVE, JOBS[:1])
    slow.wait_for(1)
    assert workers.room() == room

    workers.offer(Step.ARCHIVE, JOBS[:2])
    slow.wait_for(len(begun) - 1)

    assert sorted(slow.begun) == [JOBS[number] for number in begun]


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), KeyError("a fault of ours")])
def test_steps_that_fail_free_their_places(error: Exception) -> None:
    begun = threading.Semaphore(0)

    def run(*_: object) -> None:
        begun.release()
        raise error

    workers = executor(run, threads=1)
    workers.offer(Step.NOTIFY, JOBS[:1])
    for _ in range(20):
        assert begun.acquire(timeout=60)
        workers.offer(Step.NOTIFY, JOBS[:1])
    assert workers.drain(60) == []


def test_it_asks_for_more_once_it_was_full_and_half_of_its_queue_is_free(slow: Slow) -> None:
    asked = threading.Semaphore(0)
    workers = executor(slow, threads=4, refill=asked.release)
    workers.offer(Step.SUBMIT, many(8))
    assert not workers.refillable()

    slow.go_on.set()

    assert asked.acquire(timeout=60)
    assert workers.drain(60) == []
    assert workers.refillable()
    assert workers.room() == 8
    assert not workers.refillable(), "a sweep has looked for more"


def test_it_asks_for_nothing_while_it_was_never_full(slow: Slow) -> None:
    asked: list[int] = []
    workers = executor(slow, threads=4, refill=lambda: asked.append(1))
    workers.offer(Step.SUBMIT, many(7))
    slow.go_on.set()

    assert workers.drain(60) == []
    assert asked == []


# Stopping ------------------------------------------------------------------------------------


def test_a_drain_waits_for_the_steps_that_began() -> None:
    go_on, done = threading.Event(), []

    def run(_: Step, job_id: str) -> None:
        go_on.wait(60)
        done.append(job_id)

    workers = executor(run)
    workers.offer(Step.POLL, JOBS[:3])
    threading.Timer(0.1, go_on.set).start()
    assert workers.drain(60) == []
    assert sorted(done) == JOBS[:3]


def test_a_process_that_is_to_stop_begins_no_further_step(slow: Slow) -> None:
    stop = threading.Event()
    workers = StepExecutor(slow, stopping=stop.is_set, threads=2)
    workers.offer(Step.NOTIFY, many(4))
    slow.wait_for(2)

    stop.set()
    workers.offer(Step.NOTIFY, ["too late"])
    assert workers.room() == 0
    slow.go_on.set()

    assert workers.drain(60) == []
    assert sorted(slow.begun) == many(2)


def test_only_steps_that_began_are_named_as_unfinished(slow: Slow) -> None:
    stop = threading.Event()
    workers = StepExecutor(slow, stopping=stop.is_set, threads=1)
    workers.offer(Step.NOTIFY, many(2))
    slow.wait_for(1)

    stop.set()

    assert workers.drain(0.05) == many(1)


def test_a_step_that_does_not_end_in_time_is_named() -> None:
    go_on, done = threading.Event(), threading.Barrier(3)

    def run(_: Step, job_id: str) -> None:
        go_on.wait(60) if job_id == JOBS[0] else done.wait(60)

    workers = executor(run)
    workers.offer(Step.POLL, JOBS[:3])
    done.wait(60)
    # The two threads still have to report that their steps ended.
    assert JOBS[:1] == eventually_drained(workers)
    go_on.set()


def test_an_executor_without_jobs_has_nothing_to_drain() -> None:
    assert executor(lambda *_: None).drain(0) == []


def test_a_job_whose_step_could_not_be_started_is_taken_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step loop starts with its first step. There may be too many open files then."""
    loop, done = StepLoop(), threading.Event()
    workers = executor(lambda *_: done.set(), threads=1, loop=loop)
    with monkeypatch.context() as full:
        full.setattr("asyncio.new_event_loop", partial(os.open, "/no such folder/file", 0))
        with pytest.raises(OSError, match="No such file"):
            workers.offer(Step.SUBMIT, JOBS[:1])

    workers.offer(Step.SUBMIT, JOBS[:1])

    assert done.wait(60)
    assert workers.drain(60) == []
    loop.stop()
