"""The threads that do a worker's steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable
from workers.executor import StepExecutor

JOBS = [f"job-{number}" for number in range(5)]


def executor(run: Callable[[Step, str], None], threads: int = 4) -> StepExecutor:
    return StepExecutor(run, stopping=lambda: False, threads=threads)


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


def eventually_drained(workers: StepExecutor) -> list[str]:
    """Return what is left once only one job is left, or what is left after a minute."""
    for _ in range(600):
        if len(left := workers.drain(0.1)) == 1:
            break
    return left


def test_steps_are_done_side_by_side() -> None:
    together = threading.Barrier(len(JOBS) + 1)
    workers = executor(lambda *_: (together.wait(60), None)[1], threads=len(JOBS))
    workers.execute(Step.POLL, JOBS)
    together.wait(60)
    assert workers.drain(60) == []


def test_no_more_is_taken_while_all_are_busy() -> None:
    step = Slow()
    workers = executor(step, threads=2)
    taking = threading.Thread(target=workers.execute, args=(Step.SUBMIT, JOBS))
    taking.start()
    for _ in range(2):
        assert step.arrived.acquire(timeout=60)
    # A third step would start at once if a thread were free.
    assert not step.arrived.acquire(timeout=0.2)
    assert taking.is_alive()
    step.go_on.set()
    taking.join(60)
    assert workers.drain(60) == []
    assert sorted(step.begun) == JOBS


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), KeyError("a fault of ours")])
def test_a_step_that_breaks_does_not_keep_the_others(error: Exception) -> None:
    done = []

    def run(_: Step, job_id: str) -> None:
        if job_id == JOBS[0]:
            raise error
        done.append(job_id)

    workers = executor(run, threads=1)
    workers.execute(Step.SUBMIT, JOBS)
    assert workers.drain(60) == []
    assert done == JOBS[1:]


def test_what_was_begun_is_finished_before_the_end() -> None:
    go_on, done = threading.Event(), []

    def run(_: Step, job_id: str) -> None:
        go_on.wait(60)
        done.append(job_id)

    workers = executor(run)
    workers.execute(Step.POLL, JOBS[:3])
    threading.Timer(0.1, go_on.set).start()
    assert workers.drain(60) == []
    assert sorted(done) == JOBS[:3]


def test_a_process_that_is_to_stop_begins_no_further_step() -> None:
    stop, done = threading.Event(), []

    def run(_: Step, job_id: str) -> None:
        done.append(job_id)
        stop.set()

    workers = StepExecutor(run, stopping=stop.is_set, threads=1)
    workers.execute(Step.SUBMIT, JOBS)
    assert workers.drain(60) == []
    assert done == JOBS[:1]


def test_what_is_not_finished_in_time_is_named() -> None:
    go_on, done = threading.Event(), threading.Barrier(3)

    def run(_: Step, job_id: str) -> None:
        go_on.wait(60) if job_id == JOBS[0] else done.wait(60)

    workers = executor(run)
    workers.execute(Step.POLL, JOBS[:3])
    done.wait(60)
    # The two threads still have to report that their steps ended.
    assert JOBS[:1] == eventually_drained(workers)
    go_on.set()


# With a backlog ------------------------------------------------------------------------------


def many(count: int) -> list[str]:
    return [f"job-{number:03}" for number in range(count)]


def returns(workers: StepExecutor, jobs: list[str]) -> bool:
    """Whether taking these jobs returns, although nothing is done meanwhile."""
    taking = threading.Thread(target=workers.execute, args=(Step.NOTIFY, jobs), daemon=True)
    taking.start()
    taking.join(60)
    return not taking.is_alive()


@pytest.fixture
def slow() -> Iterator[Slow]:
    step = Slow()
    yield step
    step.go_on.set()


def test_with_a_backlog_the_loop_is_never_held_back(slow: Slow) -> None:
    workers = StepExecutor(slow, stopping=lambda: False, threads=2, backlog=3)

    for _ in range(3):
        assert returns(workers, many(100))

    assert slow.arrived.acquire(timeout=60)
    assert slow.arrived.acquire(timeout=60)
    assert not slow.arrived.acquire(blocking=False)
    slow.go_on.set()
    assert workers.drain(60) == []


def test_what_is_over_the_backlog_is_dropped_and_nothing_is_begun_twice(slow: Slow) -> None:
    workers = StepExecutor(slow, stopping=lambda: False, threads=2, backlog=3)

    assert returns(workers, many(100))
    slow.go_on.set()

    assert workers.drain(60) == []
    assert sorted(slow.begun) == many(5)


def test_there_is_room_again_for_each_step_that_is_done(slow: Slow) -> None:
    workers = StepExecutor(slow, stopping=lambda: False, threads=1, backlog=1)
    slow.go_on.set()

    for job_id in many(50):
        workers.execute(Step.NOTIFY, [job_id])
        assert slow.arrived.acquire(timeout=60)

    assert workers.drain(60) == []
    assert slow.begun == many(50)


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), KeyError("a fault of ours")])
def test_steps_that_break_leave_their_room(error: Exception) -> None:
    begun = threading.Semaphore(0)

    def run(*_: object) -> None:
        begun.release()
        raise error

    workers = StepExecutor(run, stopping=lambda: False, threads=1, backlog=1)
    for _ in range(20):
        workers.execute(Step.NOTIFY, JOBS[:1])
        assert begun.acquire(timeout=60)
    assert workers.drain(60) == []


def test_what_waits_when_the_process_is_to_stop_is_not_begun(slow: Slow) -> None:
    stop = threading.Event()
    workers = StepExecutor(slow, stopping=stop.is_set, threads=2, backlog=10)
    workers.execute(Step.NOTIFY, many(8))
    for _ in range(2):
        assert slow.arrived.acquire(timeout=60)

    stop.set()
    workers.execute(Step.NOTIFY, ["too late"])
    slow.go_on.set()

    assert workers.drain(60) == []
    assert sorted(slow.begun) == many(2)


def test_what_waits_and_what_hangs_is_named_when_the_time_is_over(slow: Slow) -> None:
    workers = StepExecutor(slow, stopping=lambda: False, threads=1, backlog=2)
    workers.execute(Step.NOTIFY, many(10))

    assert workers.drain(0.05) == many(3)


def test_a_crew_that_took_nothing_has_nothing_to_finish() -> None:
    assert StepExecutor(lambda *_: None, stopping=lambda: False, backlog=1).drain(0) == []


def test_a_step_that_is_held_back_for_room_is_not_dropped_without_a_backlog(slow: Slow) -> None:
    workers = StepExecutor(slow, stopping=lambda: False, threads=1)
    taking = threading.Thread(target=workers.execute, args=(Step.SUBMIT, many(20)))
    taking.start()
    slow.go_on.set()
    taking.join(60)

    assert workers.drain(60) == []
    assert slow.begun == many(20)
