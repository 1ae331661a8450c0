"""Runs functions as steps of a step loop."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from orchestrator.step_loop import StepLoop

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
