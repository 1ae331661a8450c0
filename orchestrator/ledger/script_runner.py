"""Runs the scripts of transitions. Steps of one step loop share round trips.

While a round trip lasts, further steps of the loop may want a script. Those travel together in the
next one. So many transitions cost one call to the operating system and one wait for Redis' disk.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.forks import renew_in_children
from orchestrator.ledger.refusals import meaning
from orchestrator.ledger.script import Script, run_together
from orchestrator.step_loop import current_loop, wait_for

#: The most scripts in one round trip. Redis answers nobody else while it runs them.
MAX_SCRIPTS = 64


@dataclass(frozen=True, slots=True)
class _Run:
    """A script that a step waits for."""

    script: Script
    keys: list[str]
    args: list[str | int]
    future: asyncio.Future[list[str]]


class ScriptRunner:
    """Runs a script at once in a plain thread, and together with others in a step loop.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without waiting scripts, also in a child of a fork."""
        self._of_thread = threading.local()

    def run(self, script: Script, keys: list[str], args: list[str | int]) -> list[str]:
        """Run a script, and return its answer.

        Raises:
            LedgerUnavailable: Redis is away. The script may have run: it can be run again.
        """
        loop = current_loop()
        if loop is None:
            with self._redis() as client:
                return script.run(client, keys, args)
        return wait_for(self._scripts_of(loop).run(script, keys, args))

    def _scripts_of(self, loop: asyncio.AbstractEventLoop) -> _LoopScripts:
        """Return the scripts of a loop. Each loop has a thread of its own."""
        known: _LoopScripts | None = getattr(self._of_thread, "scripts", None)
        if known is None or known.loop is not loop:
            known = self._of_thread.scripts = _LoopScripts(self._redis, loop)
        return known


class _LoopScripts:
    """The scripts of one step loop. A thread waits for Redis, so the loop never does."""

    def __init__(
        self, client: Callable[[], AbstractContextManager[Redis]], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self._redis = client
        self._waiting: list[_Run] = []
        #: A round trip is under way, or will begin.
        self._sending = False
        self._sender = ThreadPoolExecutor(1, "scripts")

    def run(
        self, script: Script, keys: list[str], args: list[str | int]
    ) -> asyncio.Future[list[str]]:
        """Run a script in the next round trip. The future has its answer or its error."""
        future: asyncio.Future[list[str]] = self.loop.create_future()
        self._waiting.append(_Run(script, keys, args, future))
        if not self._sending:
            self._sending = True
            self.loop.call_soon(self._send)
        return future

    def _send(self) -> None:
        runs, self._waiting = self._waiting[:MAX_SCRIPTS], self._waiting[MAX_SCRIPTS:]
        trip = self.loop.run_in_executor(self._sender, self._answers, runs)
        trip.add_done_callback(lambda done: self._deliver(runs, done.result()))

    def _answers(self, runs: list[_Run]) -> list[Any]:
        """Return the answer or the error of each script. A script that has run has its answer."""
        answers: list[Any] = []
        try:
            with self._redis() as client:
                answers = run_together(client, [(run.script, run.keys, run.args) for run in runs])
                if away := next(filter(_is_away, answers), None):
                    raise away  # so the next call connects anew
        except Exception as error:  # noqa: BLE001  # each step raises it
            if not answers:
                return [error] * len(runs)
            return [meaning(each) or error if _is_away(each) else each for each in answers]
        return answers

    def _deliver(self, runs: list[_Run], answers: list[Any]) -> None:
        self._sending = bool(self._waiting)
        if self._sending:
            self._send()
        for run, answer in zip(runs, answers, strict=True):
            if isinstance(answer, Exception):
                run.future.set_exception(answer)
            else:
                run.future.set_result(answer)


def _is_away(answer: Any) -> bool:
    """Return whether a script did not run, because Redis is away or refuses to write."""
    if isinstance(answer, RedisTimeoutError):
        return True
    return isinstance(answer, RedisError) and meaning(answer) is not None
