"""The threads that send callbacks and run timed actions."""

import threading

import requests

from sandbox.executor import TaskExecutor
from sandbox.timetable import Timetable
from tests.sandbox.kit import TIMEOUT_SECONDS


def _fail(_: requests.Session | None = None) -> None:
    raise RuntimeError


def test_a_failure_does_not_end_a_thread_of_the_executor() -> None:
    executor, done = TaskExecutor(size=1), threading.Event()
    executor.submit(_fail)
    executor.submit(lambda _: done.set())

    assert done.wait(TIMEOUT_SECONDS)
    executor.stop()


def test_a_failure_does_not_end_the_timetable() -> None:
    timetable, done = Timetable(), threading.Event()
    timetable.after(0, _fail)
    timetable.after(0, done.set)

    assert done.wait(TIMEOUT_SECONDS)
    timetable.stop()
