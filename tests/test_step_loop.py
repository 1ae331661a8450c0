"""Many steps in one thread: they wait side by side, and none sees what belongs to another."""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import Future
from contextvars import ContextVar

import pytest
from greenlet import GreenletExit, getcurrent, greenlet

from orchestrator import step_loop
from orchestrator.step_loop import (
    Alarm,
    StepLoop,
    as_step,
    current_loop,
    in_thread,
    sleep,
    wait_for,
)
from tests.ledger.kit import eventually
from tests.support.steps import begin

#: The longest wait for a step. Seconds.
LIMIT = 60


def future_of_loop() -> asyncio.Future[int]:
    loop = current_loop()
    assert loop
    return loop.create_future()


def test_a_thousand_steps_wait_at_once_in_one_thread(steps: StepLoop) -> None:
    begun: list[asyncio.Future[int]] = []
    threads: set[int] = set()

    def step(number: int) -> int:
        future = future_of_loop()
        begun.append(future)
        threads.add(threading.get_ident())
        return number + wait_for(future)

    results = [begin(steps, step, number) for number in range(1000)]

    def answer_all() -> int:
        assert len(begun) == 1000  # all of them wait
        for future in begun:
            future.set_result(1)
        return len(begun)

    begin(steps, answer_all).result(LIMIT)
    assert [result.result(LIMIT) for result in results] == list(range(1, 1001))
    assert threads == {begin(steps, threading.get_ident).result(LIMIT)} - {threading.get_ident()}


def test_an_error_belongs_to_its_step(steps: StepLoop) -> None:
    def fails() -> None:
        sleep(0)
        raise KeyError("a fault")

    bad, good = begin(steps, fails), begin(steps, lambda: sleep(0.001))

    assert isinstance(bad.exception(LIMIT), KeyError)
    assert good.exception(LIMIT) is None


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_step_that_breaks_its_promise_to_raise_nothing_stops_no_other(
    steps: StepLoop, error: type[BaseException], waits: bool
) -> None:
    def breaks() -> None:
        if waits:
            sleep(0)
        raise error

    def start_both() -> Future[None]:  # they begin in one round of the loop
        steps.start(breaks)
        return begin(steps, sleep, 0)

    begin(steps, start_both).result(LIMIT).result(LIMIT)


def test_each_step_has_its_own_context(steps: StepLoop) -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")

    def step(mine: str) -> str:
        before = name.get()
        name.set(mine)
        sleep(0.001)
        return f"{before} {name.get()}"

    results = [begin(steps, step, mine) for mine in ("a", "b", "c")]

    assert [result.result(LIMIT) for result in results] == ["nobody a", "nobody b", "nobody c"]
    assert name.get() == "nobody"


def test_a_stack_that_is_used_again_has_nothing_of_the_step_before(steps: StepLoop) -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")

    def step(mine: str) -> tuple[greenlet, str]:
        before = name.get()
        name.set(mine)
        sleep(0)
        return getcurrent(), before

    results = [begin(steps, step, mine).result(LIMIT) for mine in ("a", "b", "c")]

    assert len({stack for stack, _ in results}) == 1
    assert [before for _, before in results] == ["nobody"] * 3


def test_a_thread_keeps_so_many_stacks_and_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_loop, "MAX_IDLE_STACKS", 2)
    loop, stacks, futures = StepLoop("stopped"), set[greenlet](), list[asyncio.Future[int]]()

    def waits() -> None:
        stacks.add(getcurrent())
        futures.append(future_of_loop())
        wait_for(futures[-1])

    def answer_all() -> None:
        stacks.add(getcurrent())
        for future in futures:
            future.set_result(0)

    def open_stacks() -> int:
        return sum(not stack.dead for stack in stacks)

    results = [begin(loop, waits) for _ in range(5)]
    eventually(lambda: len(futures) == 5)
    for each in (begin(loop, answer_all), *results):
        each.result(LIMIT)
    eventually(lambda: open_stacks() == 2)
    waiting = begin(loop, waits)
    eventually(lambda: len(futures) == 6)

    loop.stop()

    assert isinstance(waiting.exception(LIMIT), GreenletExit)
    eventually(lambda: open_stacks() == 0)


def test_what_blocks_runs_in_another_thread_and_holds_no_step(steps: StepLoop) -> None:
    go_on = threading.Event()

    def blocks() -> bool:
        return in_thread(go_on.wait, LIMIT)

    blocked = begin(steps, blocks)
    begin(steps, go_on.set).result(LIMIT)

    assert blocked.result(LIMIT)
    with pytest.raises(ZeroDivisionError):
        begin(steps, lambda: in_thread(lambda: 1 // 0)).result(LIMIT)


def test_steps_that_hang_in_threads_hold_up_no_other(steps: StepLoop) -> None:
    go_on = threading.Event()
    hanging = [begin(steps, in_thread, go_on.wait, LIMIT) for _ in range(150)]

    assert begin(steps, in_thread, lambda: "done").result(LIMIT / 2) == "done"

    assert not any(result.done() for result in hanging)
    go_on.set()
    assert all(result.result(LIMIT) for result in hanging)


def test_what_blocks_has_the_context_of_its_step(steps: StepLoop) -> None:
    span: ContextVar[str] = ContextVar("span", default="none")

    def step() -> str:
        span.set("of the step")
        return in_thread(span.get)

    assert begin(steps, step).result(60) == "of the step"


def test_an_alarm_rings_in_time_or_not_at_all(steps: StepLoop) -> None:
    alarms: list[Alarm] = []

    def wait(seconds: float) -> str:
        alarms.append(Alarm())
        alarms[-1].wait(seconds)
        return "over"

    assert begin(steps, wait, 0.01).result(60) == "over"
    alarms.pop().ring()  # too late
    waiting = begin(steps, wait, 3600)
    eventually(lambda: alarms)
    alarms.pop().ring()  # of another thread
    assert waiting.result(60) == "over"
    early = Alarm()
    early.ring()
    early.wait(3600)


def test_outside_a_step_loop_the_same_code_blocks() -> None:
    sleep(0)

    assert current_loop() is None
    assert in_thread(threading.get_ident) == threading.get_ident()


def test_a_stop_breaks_off_the_steps_that_wait() -> None:
    loop = StepLoop("stopped")

    def step() -> None:
        wait_for(future_of_loop())

    steps = [begin(loop, step) for _ in range(2)]
    begin(loop, int).result(LIMIT)  # both have begun

    loop.stop()

    assert [type(each.exception(LIMIT)) for each in steps] == [GreenletExit] * 2
    eventually(lambda: "stopped" not in {thread.name for thread in threading.enumerate()})
    loop.stop()  # a worker that starts anew may be told to end, too


def test_a_step_that_ends_after_its_task_was_cancelled_is_no_error() -> None:
    failures: list[dict[str, object]] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        future: asyncio.Future[None] = loop.create_future()
        task = loop.create_task(as_step(wait_for, future))
        await asyncio.sleep(0)  # the step waits
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        future.set_result(None)
        await asyncio.sleep(0)  # the step ends

    asyncio.run(play())

    assert failures == []


def test_an_idle_stack_keeps_nothing_of_its_steps(steps: StepLoop) -> None:
    class Held:
        """What a step has."""

    def step(held: Held) -> None:
        sleep(0)
        del held

    kept = list[weakref.ref[Held]]()
    for _ in range(3):
        held = Held()
        kept.append(weakref.ref(held))
        begin(steps, step, held).result(LIMIT)
        del held

    eventually(lambda: [each() for each in kept] == [None] * 3)
