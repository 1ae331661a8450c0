"""Actions that are repeated in the background until their server is back."""

from __future__ import annotations

import threading

import pytest

from orchestrator import retry_queue
from orchestrator.retry_queue import RetryQueue

WAIT_SECONDS = 60.0


class Away(Exception):
    """The server is away."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_queue, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(retry_queue, "LONGEST_WAIT_SECONDS", 0.01)


def test_actions_are_repeated_in_order_until_the_server_is_back() -> None:
    queue, done, left = RetryQueue(), [], [5]

    def action(name: str) -> None:
        if left[0]:
            left[0] -= 1
            raise Away
        done.append(name)

    for name in ("first", "second", "third"):
        queue.add(name, lambda name=name: action(name), until_not=Away)  # type: ignore[misc]

    assert queue.drain(WAIT_SECONDS) == []
    assert done == ["first", "second", "third"]


def test_another_error_ends_an_action_and_delays_no_other() -> None:
    queue, done = RetryQueue(), []

    def broken() -> None:
        raise ZeroDivisionError

    queue.add("broken", broken, until_not=Away)
    queue.add("good", lambda: done.append("good"), until_not=Away)

    assert queue.drain(WAIT_SECONDS) == []
    assert done == ["good"]


def test_what_is_left_after_the_drain_is_named_and_continues() -> None:
    queue, back, done = RetryQueue(), threading.Event(), threading.Event()

    def action() -> None:
        if not back.is_set():
            raise Away
        done.set()

    queue.add("job_1.1", action, until_not=Away)
    assert queue.drain(0.02) == ["job_1.1"]

    back.set()
    assert queue.drain(WAIT_SECONDS) == []
    assert done.is_set()


def test_the_thread_ends_with_the_last_action_and_starts_with_the_next() -> None:
    queue, done = RetryQueue(), []
    for number in range(3):
        queue.add("again", lambda number=number: done.append(number), until_not=Away)  # type: ignore[misc]
        assert queue.drain(WAIT_SECONDS) == []

    assert done == [0, 1, 2]
    assert "retry-queue" not in {thread.name for thread in threading.enumerate()}


def test_an_action_that_is_replaced_while_it_runs_is_not_lost() -> None:
    queue, running, go_on = RetryQueue(), threading.Event(), threading.Event()
    done: list[str] = []

    def first() -> None:
        running.set()
        assert go_on.wait(WAIT_SECONDS)
        done.append("first")

    queue.add("job_1.1", first, until_not=Away)
    assert running.wait(WAIT_SECONDS)
    queue.add("job_1.1", lambda: done.append("second"), until_not=Away)
    go_on.set()

    assert queue.drain(WAIT_SECONDS) == []
    assert done == ["first", "second"]
