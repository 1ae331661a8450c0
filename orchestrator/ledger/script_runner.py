"""Runs the scripts of transitions. Steps of one step loop share round trips.

While a round trip lasts, further steps of the loop may want a script. Those travel together in the
next one. So many transitions cost one call to the operating system and one wait for Redis' disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from orchestrator.forks import renew_in_children
from orchestrator.ledger.refusals import meaning
from orchestrator.ledger.script import Script
from orchestrator.step_loop import current_loop, wait_for

#: The most scripts in one round trip. Redis does nothing else while it runs one of them, and the
#: step loop does nothing else during the round trip.
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
        self._waiting: list[_Run] = []

    def run(self, script: Script, keys: list[str], args: list[str | int]) -> list[str]:
        """Run a script, and return its answer.

        Raises:
            LedgerUnavailable: Redis is away. The script may have run: it can be run again.
        """
        loop = current_loop()
        if loop is None:
            with self._redis() as client:
                return script.run(client, keys, args)
        future: asyncio.Future[list[str]] = loop.create_future()
        self._waiting.append(_Run(script, keys, args, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._run_waiting, loop)
        return wait_for(future)

    def _run_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        runs, self._waiting = self._waiting[:MAX_SCRIPTS], self._waiting[MAX_SCRIPTS:]
        if self._waiting:
            loop.call_soon(self._run_waiting, loop)
        try:
            with self._redis() as client:
                answers = _run_together(client, runs)
        except Exception as error:  # noqa: BLE001  # each step raises it
            answers = [error] * len(runs)
        for run, answer in zip(runs, answers, strict=True):
            if isinstance(answer, Exception):
                run.future.set_exception(answer)
            else:
                run.future.set_result(answer)


def _run_together(client: Redis, runs: list[_Run]) -> list[Any]:
    """Return the answer of each script, or its error.

    Raises:
        RedisError, LedgerUnavailable: Redis is away. Every script may be run again.
    """
    if len(runs) == 1:
        return [runs[0].script.run(client, runs[0].keys, runs[0].args)]
    answers = _pipelined(client, runs)
    unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:  # Redis was restarted
        for script in {runs[i].script for i in unknown}:
            client.script_load(script.source)
        for i, answer in zip(unknown, _pipelined(client, [runs[i] for i in unknown]), strict=True):
            answers[i] = answer
    for answer in answers:
        if isinstance(answer, RedisError) and meaning(answer):
            raise answer
    return answers


def _pipelined(client: Redis, runs: list[_Run]) -> list[Any]:
    with client.pipeline(transaction=False) as pipe:
        for run in runs:
            pipe.evalsha(run.script.sha, len(run.keys), *run.keys, *run.args)
        return pipe.execute(raise_on_error=False)
