"""The threads that do a worker's steps."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from orchestrator.jobs import Step
from orchestrator.ledger import LedgerUnavailable
from workers.crew import Crew

JOBS = [f"job-{number}" for number in range(5)]


def crew(run: Callable[[Step, str], None], threads: int = 4) -> Crew:
    return Crew(run, stopping=lambda: False, threads=threads)


def test_steps_are_done_side_by_side() -> None:
    together = threading.Barrier(len(JOBS) + 1)
    workers = crew(lambda *_: (together.wait(5), None)[1], threads=len(JOBS))
    workers.take(Step.POLL, JOBS)
    together.wait(5)
    assert workers.drain(5) == []


def test_no_more_is_taken_while_all_are_busy() -> None:
    begun, go_on = [], threading.Event()

    def run(_: Step, job_id: str) -> None:
        begun.append(job_id)
        go_on.wait(5)

    workers = crew(run, threads=2)
    taking = threading.Thread(target=workers.take, args=(Step.SUBMIT, JOBS))
    taking.start()
    taking.join(0.3)
    assert taking.is_alive()
    assert len(begun) == 2
    go_on.set()
    taking.join(5)
    assert workers.drain(5) == []
    assert sorted(begun) == JOBS


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), KeyError("a fault of ours")])
def test_a_step_that_breaks_does_not_keep_the_others(error: Exception) -> None:
    done = []

    def run(_: Step, job_id: str) -> None:
        if job_id == JOBS[0]:
            raise error
        done.append(job_id)

    workers = crew(run, threads=1)
    workers.take(Step.SUBMIT, JOBS)
    assert workers.drain(5) == []
    assert done == JOBS[1:]


def test_what_was_begun_is_finished_before_the_end() -> None:
    go_on, done = threading.Event(), []

    def run(_: Step, job_id: str) -> None:
        go_on.wait(5)
        done.append(job_id)

    workers = crew(run)
    workers.take(Step.POLL, JOBS[:3])
    threading.Timer(0.1, go_on.set).start()
    assert workers.drain(5) == []
    assert sorted(done) == JOBS[:3]


def test_a_process_that_is_to_stop_begins_no_further_step() -> None:
    stop, done = threading.Event(), []

    def run(_: Step, job_id: str) -> None:
        done.append(job_id)
        stop.set()

    workers = Crew(run, stopping=stop.is_set, threads=1)
    workers.take(Step.SUBMIT, JOBS)
    assert workers.drain(5) == []
    assert done == JOBS[:1]


def test_what_is_not_finished_in_time_is_named() -> None:
    go_on = threading.Event()
    workers = crew(lambda _, job_id: (job_id == JOBS[0] and go_on.wait(5), None)[1])
    workers.take(Step.POLL, JOBS[:3])
    assert workers.drain(0.2) == JOBS[:1]
    go_on.set()
