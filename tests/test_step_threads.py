"""Steps take threads in turn, and give them back."""

from __future__ import annotations

import threading
from contextvars import ContextVar

from orchestrator.step_loop import StepLoop, sleep
from orchestrator.step_threads import StepThreads
from tests.support.steps import begin

#: The longest wait for a step. Seconds.
LIMIT = 60


def test_no_more_steps_than_threads_work_at_once_and_all_of_them_do(steps: StepLoop) -> None:
    threads, working, most = StepThreads(3, "test"), set[int](), list[int]()

    def step(number: int) -> int:
        with threads.taken() as thread:
            assert thread
            working.add(number)
            most.append(len(working))
            ident = thread.run(threading.get_ident)
            working.discard(number)
            thread.free()
            sleep(0)  # the thread is another step's
            return ident

    futures = [begin(steps, step, number) for number in range(20)]
    idents = {future.result(LIMIT) for future in futures}

    assert max(most) == 3
    assert len(idents) <= 3
    assert begin(steps, threading.get_ident).result(LIMIT) not in idents


def test_an_error_is_the_steps_and_the_thread_is_given_back(steps: StepLoop) -> None:
    threads, name = StepThreads(1, "test"), ContextVar("name", default="")

    def step() -> None:
        name.set("of the step")
        with threads.taken() as thread:
            assert thread
            assert thread.run(name.get) == "of the step"
            thread.run(int, "not a number")

    for _ in range(2):
        assert isinstance(begin(steps, step).exception(LIMIT), ValueError)


def test_steps_that_wait_get_no_thread_when_the_process_stops(steps: StepLoop) -> None:
    threads, go_on, got = StepThreads(1, "test"), threading.Event(), list[bool]()

    def step() -> None:
        with threads.taken() as thread:
            got.append(thread is not None)
            if thread:
                thread.run(go_on.wait, LIMIT)

    futures = [begin(steps, step) for _ in range(3)]
    begin(steps, sleep, 0).result(LIMIT)  # all of them have begun
    threads.close()
    for future in futures[1:]:
        future.result(LIMIT)
    go_on.set()
    futures[0].result(LIMIT)

    assert got == [True, False, False]
    assert begin(steps, step).result(LIMIT) is None
    assert got[-1] is False


def test_outside_a_step_loop_the_callers_thread_does_the_work() -> None:
    with StepThreads(1, "test").taken() as thread:
        assert thread
        assert thread.run(threading.get_ident) == threading.get_ident()
