"""One thread in which many steps wait at once.

A step is plain code. Where it waits for a provider or for Redis, it calls `wait_for`, and the
thread goes on with other steps. Each step is a greenlet, which has its own stack and its own
context variables. Outside such a thread the same code simply blocks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar, cast

from greenlet import GreenletExit, getcurrent, greenlet

from orchestrator.forks import renew_in_children

#: Threads for what `in_thread` gets. Few start, except where something hangs. A storage that hangs
#: holds one for each step of its provider. The steps of other providers must find one, too.
MAX_THREADS = 1024
#: Stacks of a thread that are kept for its next steps. Each has 16 KiB.
MAX_IDLE_STACKS = 64

T = TypeVar("T")
P = ParamSpec("P")


class _Step(greenlet):
    """The stack of one step after another. Its parent is the stack of the event loop."""

    loop: asyncio.AbstractEventLoop


class _Idle(threading.local):
    """The stacks of a thread on which no step runs. A new stack costs two system calls."""

    def __init__(self) -> None:
        self.stacks: list[_Step] = []


_idle = _Idle()


def current_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of the step that calls, or None outside a step loop."""
    step = getcurrent()
    return step.loop if isinstance(step, _Step) else None


def wait_for(future: asyncio.Future[T]) -> T:
    """Return the result of a future of `current_loop`. Meanwhile other steps run."""
    step = getcurrent()
    loop_stack = step.parent
    if not isinstance(step, _Step) or loop_stack is None:
        raise RuntimeError("only a step of a step loop can wait for a future")
    future.add_done_callback(lambda _: step.switch())
    loop_stack.switch()
    return future.result()


def sleep(seconds: float) -> None:
    """Wait. In a step loop, other steps run meanwhile."""
    loop = current_loop()
    if loop is None:
        time.sleep(seconds)
        return
    future: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, future.set_result, None)
    wait_for(future)


class Alarm:
    """Wakes the step, or the thread outside of a step loop, that has made it. It rings once."""

    def __init__(self) -> None:
        self._loop = current_loop()
        self._future = self._loop.create_future() if self._loop else None
        self._rang = threading.Event() if self._loop is None else None

    def wait(self, seconds: float) -> None:
        """Wait until it rings, at most for this time. In a step loop, other steps run meanwhile."""
        if self._rang:
            self._rang.wait(seconds)
        elif self._loop and self._future:
            timer = self._loop.call_later(seconds, self._end)
            wait_for(self._future)
            timer.cancel()

    def ring(self) -> None:
        """End the wait. Any thread may call this."""
        if self._rang:
            self._rang.set()
        elif self._loop and current_loop() is self._loop:
            self._end()
        elif self._loop:
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if self._future and not self._future.done():
            self._future.set_result(None)


def in_thread(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of an action that blocks or computes for long. Other steps run meanwhile.

    Raises:
        Exception: what the action raises.
    """
    loop = current_loop()
    if loop is None:
        return action(*args, **kwargs)
    # The context has the active span of the step.
    act = partial(copy_context().run, action, *args, **kwargs)
    return wait_for(loop.run_in_executor(None, act))


def prepare(loop: asyncio.AbstractEventLoop) -> None:
    """Give a loop that will run steps the threads for `in_thread`. They start when needed."""
    loop.set_default_executor(ThreadPoolExecutor(MAX_THREADS, "step-thread"))


def begin(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    """Begin a step in this thread, which runs the loop. Return when it waits or has ended.

    Args:
        loop: the event loop.
        action: of the step. It raises nothing.
    """
    if not _idle.stacks:
        _Step(_run_steps).switch()
    step = _idle.stacks.pop()
    step.loop = loop
    step.gr_context = None
    step.switch(action)


def _run_steps() -> None:
    """Run steps on this stack, one after another. Between them it is idle."""
    step = cast("_Step", getcurrent())
    while len(_idle.stacks) < MAX_IDLE_STACKS:
        _idle.stacks.append(step)
        # A greenlet keeps its first arguments for ever, so each action is the result of a switch.
        action = cast("greenlet", step.parent).switch()
        action()
        del action  # an idle stack keeps nothing of its last step


async def as_step(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run an action as a step of the running event loop, and return its result.

    Raises:
        Exception: what the action raises.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def step() -> None:
        result, failure = None, None
        try:
            result = action(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # it belongs to the caller
            failure = error
        if future.done():  # cancelled
            return
        if failure is None:
            future.set_result(cast(T, result))
        else:
            future.set_exception(failure)

    begin(loop, step)
    return await future


class StepLoop:
    """A thread with an event loop. It runs steps, each until it waits for something.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str = "steps") -> None:
        self._name = name
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without steps, also in a child of a fork: the thread is its parent's."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        #: The steps that have begun, and have not ended.
        self._steps: set[greenlet] = set()
        #: The thread will look at `_new`.
        self._will_look = False

    def start(self, action: Callable[[], None]) -> None:
        """Run an action as a step. It raises nothing. The thread starts with the first one."""
        with self._lock:
            if self._loop is None:
                self._loop = self._started()
            self._new.append(action)
            will_look, self._will_look = self._will_look, True
        if not will_look:
            self._loop.call_soon_threadsafe(self._begin, self._loop)

    def stop(self) -> None:
        """End the thread. A step that has not ended is broken off where it waits.

        What it holds would stay open: a stack of a thread that has ended is never freed.
        """
        if self._loop is not None:
            with suppress(RuntimeError):  # it was stopped before
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _started(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        prepare(loop)
        threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True).start()
        return loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            for step in list(self._steps):
                step.throw(GreenletExit)
            for stack in _idle.stacks:  # also those of the steps above
                stack.throw(GreenletExit)
            loop.close()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the new steps. Each runs until its first wait."""
        with self._lock:
            new, self._new, self._will_look = self._new, deque(), False
        for action in new:
            begin(loop, partial(self._guarded, loop, action))

    def _guarded(self, loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
        """Do a step. What it raises goes to the log, because it would end the loop of all steps."""
        step = getcurrent()
        self._steps.add(step)
        try:
            action()
        except GreenletExit:
            pass
        except BaseException as error:  # noqa: BLE001  # also SystemExit
            loop.call_exception_handler({"message": "a step failed", "exception": error})
        finally:
            self._steps.discard(step)
