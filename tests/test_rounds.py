"""A round that cannot be done fails for its own steps. None of them waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from orchestrator.rounds import Rounds
from orchestrator.step_loop import StepLoop
from tests.support.steps import begin

#: The longest wait for a step. Seconds.
LIMIT = 60


def test_an_error_of_a_round_is_that_of_its_steps(steps: StepLoop) -> None:
    def act(items: Sequence[int]) -> list[float | Exception]:
        return [1 / item for item in items]

    rounds = Rounds(act, name="test", most=10)

    assert isinstance(begin(steps, rounds.do, 0).exception(LIMIT), ZeroDivisionError)
    assert begin(steps, rounds.do, 4).result(LIMIT) == 0.25


def test_without_a_thread_a_round_fails_and_is_not_done_later(
    steps: StepLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = list[int]()

    def act(items: Sequence[int]) -> list[int | Exception]:
        done.extend(items)
        return list(items)

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    rounds = Rounds(act, name="test", most=10)
    begin(steps, int).result(LIMIT)  # the loop has its own thread
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert isinstance(begin(steps, rounds.do, 1).exception(LIMIT), RuntimeError)

    assert begin(steps, rounds.do, 2).result(LIMIT) == 2
    assert done == [2]
