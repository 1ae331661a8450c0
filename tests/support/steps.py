"""Runs functions as steps of a step loop, and commands on the connection that a loop reads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from orchestrator import step_loop
from orchestrator.ledger.connection import Clients, connect
from orchestrator.ledger.loop_connection import Command, LoopConnection
from orchestrator.ledger.script_runner import ScriptRunner
from orchestrator.servers.redis_server import RedisServer
from orchestrator.step_loop import StepLoop

#: The longest wait for an answer. Seconds.
LIMIT = 60

T = TypeVar("T")
P = ParamSpec("P")


def begin(
    loop: StepLoop, action: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> Future[T]:
    """Start a step. The future has its result or its error."""
    future: Future[T] = Future()

    def step() -> None:
        try:
            future.set_result(action(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # it belongs to the future
            future.set_exception(error)

    loop.start(step)
    return future


def open_connection(runner: ScriptRunner) -> LoopConnection:
    """Wait, in a step, until the connection of its loop is open."""
    while (connection := runner._loop_connection()) is None:
        step_loop.sleep(0.001)
    return connection


def run_in_step(url: str, command: Command) -> Any:
    """Run a command of Redis in a step, on the connection of its loop."""
    server, loop = RedisServer.parse(url), StepLoop()
    runner = ScriptRunner(Clients(lambda: connect(server)))

    def run() -> Any:
        return step_loop.wait_for(open_connection(runner).run(command))

    try:
        return begin(loop, run).result(LIMIT)
    finally:
        loop.stop()
