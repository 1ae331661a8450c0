"""Threads in which steps of a step loop do what blocks for long, such as a download.

A step takes a thread before it claims its job. So a job that waits for a thread is not claimed, and
another worker may do it. The step gives the thread back before it waits for something else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from orchestrator.forks import renew_in_children
from orchestrator.step_loop import current_loop, wait_for

T = TypeVar("T")
P = ParamSpec("P")


class StepThread:
    """A thread that a step has taken. Outside a step loop it is the caller's own thread.

    Args:
        pool: the threads; None outside a step loop.
        give_back: is called once, when the step needs the thread no more.
    """

    def __init__(
        self, pool: ThreadPoolExecutor | None = None, give_back: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._give_back: Callable[[], None] | None = give_back

    def run(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of an action that blocks. Other steps run meanwhile.

        Raises:
            Exception: what the action raises.
        """
        loop = current_loop()
        if self._pool is None or loop is None:
            return action(*args, **kwargs)
        # The context has the active span of the step.
        act = partial(copy_context().run, action, *args, **kwargs)
        return wait_for(loop.run_in_executor(self._pool, act))

    def free(self) -> None:
        """Give the thread back. A second call does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back:
            give_back()


class StepThreads:
    """The threads of one kind of step. One step loop uses them.

    Args:
        number: of the threads.
        name: of the threads.
    """

    def __init__(self, number: int, name: str) -> None:
        self._number, self._name = number, name
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without threads, also in a child of a fork."""
        self._free = self._number
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    @contextmanager
    def taken(self) -> Iterator[StepThread | None]:
        """Wait for a thread, and take it. It is None when the process stops."""
        loop = current_loop()
        if loop is None:
            yield StepThread()
            return
        if self._free:
            self._free -= 1
        elif not self._closed:
            self._waiting.append(loop.create_future())
            wait_for(self._waiting[-1])  # a step that gives its thread back leaves it to this one
        if self._closed:
            yield None
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._number, self._name)
        thread = StepThread(self._pool, self._put_back)
        try:
            yield thread
        finally:
            thread.free()

    def close(self) -> None:
        """Give no step a thread from now on. Any thread may call this."""
        self._closed = True
        for future in list(self._waiting):
            future.get_loop().call_soon_threadsafe(self._wake_one)

    def _put_back(self) -> None:
        if self._waiting:
            self._wake_one()
        else:
            self._free += 1

    def _wake_one(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
