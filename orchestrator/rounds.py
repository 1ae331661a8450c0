"""Does the same work for many steps of a step loop together, one round at a time.

While a round lasts, further steps may want the work. They share the next round. So the cost of a
round, such as a wait for a disk, is shared. A thread does the work, so the loop never waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from orchestrator.forks import renew_in_children
from orchestrator.step_loop import current_loop, wait_for

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Rounds(Generic[Item, Answer]):
    """Collects the items of steps, and does their work.

    Args:
        act: does the work of a round. It returns the answer or the error of each item. An error
            that it raises is that of every item.
        name: of the thread.
        most: items in a round.
    """

    def __init__(
        self, act: Callable[[Sequence[Item]], list[Answer | Exception]], *, name: str, most: int
    ) -> None:
        self._act, self._name, self._most = act, name, most
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without waiting items, also in a child of a fork."""
        self._of_thread = threading.local()

    def do(self, item: Item) -> Answer:
        """Return the answer for an item. Outside a step loop, it has a round of its own.

        Raises:
            Exception: the error of the item.
        """
        loop = current_loop()
        if loop is None:
            [answer] = self._act([item])
            if isinstance(answer, Exception):
                raise answer
            return answer
        return wait_for(self._rounds_of(loop).do(item))

    def _rounds_of(self, loop: asyncio.AbstractEventLoop) -> _LoopRounds[Item, Answer]:
        """Return the rounds of a loop. Each loop has a thread of its own."""
        known: _LoopRounds[Item, Answer] | None = getattr(self._of_thread, "rounds", None)
        if known is None or known.loop is not loop:
            known = _LoopRounds(self._act, self._name, self._most, loop)
            self._of_thread.rounds = known
        return known


class _LoopRounds(Generic[Item, Answer]):
    """The rounds of one step loop."""

    def __init__(
        self,
        act: Callable[[Sequence[Item]], list[Answer | Exception]],
        name: str,
        most: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.loop = loop
        self._act, self._most = act, most
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        #: A round is under way, or will begin.
        self._busy = False
        self._new_thread = partial(ThreadPoolExecutor, 1, name)
        self._thread = self._new_thread()

    def do(self, item: Item) -> asyncio.Future[Answer]:
        """Put an item into the next round. The future has its answer or its error."""
        future: asyncio.Future[Answer] = self.loop.create_future()
        self._waiting.append((item, future))
        if not self._busy:
            self._busy = True
            self.loop.call_soon(self._begin)
        return future

    def _begin(self) -> None:
        taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        items, futures = [item for item, _ in taken], [future for _, future in taken]
        try:
            done = self.loop.run_in_executor(self._thread, self._answers, items)
        except RuntimeError as error:  # there are too many threads
            self._thread = self._new_thread()  # the old one would do this round later
            self._deliver(futures, [error] * len(futures))
        else:
            done.add_done_callback(lambda done: self._deliver(futures, done.result()))

    def _answers(self, items: Sequence[Item]) -> list[Answer | Exception]:
        """Do the work of a round. Without an answer, its steps would wait for ever."""
        try:
            return self._act(items)
        except Exception as error:  # noqa: BLE001  # it belongs to the steps
            return [error] * len(items)

    def _deliver(
        self, futures: list[asyncio.Future[Answer]], answers: list[Answer | Exception]
    ) -> None:
        self._busy = bool(self._waiting)
        if self._busy:
            self._begin()
        for future, answer in zip(futures, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
