"""The end of a worker."""

from __future__ import annotations

import logging
import os
import threading
from types import ModuleType

import pytest

from tests.support.fakes import Harness
from tests.support.worker_app import worker


@pytest.mark.parametrize(("left", "statuses"), [([], []), (["job-1"], ["logs", 0])])
def test_a_worker_whose_steps_do_not_end_ends_without_them(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, left: list[str], statuses: list[int | str]
) -> None:
    workers: ModuleType = worker(harness, monkeypatch)
    ended: list[int | str] = []
    monkeypatch.setattr(workers, "_finish", lambda seconds: left)
    monkeypatch.setattr(logging, "shutdown", lambda: ended.append("logs"))
    monkeypatch.setattr(os, "_exit", ended.append)

    workers._finish_steps()

    assert ended == statuses


def test_a_worker_that_ends_gives_no_download_a_place_and_names_what_is_left(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, queue = worker(harness, monkeypatch), harness.runtime.retry_queue
    back = threading.Event()
    queue.add("job_1.1", lambda: raise_unless(back), until_not=OSError)

    assert workers._finish(0.0) == ["job_1.1"]

    assert harness.runtime.archive_threads._closed
    back.set()
    assert queue.drain(60) == []


def raise_unless(back: threading.Event) -> None:
    if not back.is_set():
        raise OSError("away")


def test_a_worker_that_alone_knows_an_answer_does_not_start_anew(
    harness: Harness, hanging: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, back, again = harness.runtime.retry_queue, threading.Event(), list[str]()
    queue.add("job_1.1", lambda: raise_unless(back), until_not=OSError)
    monkeypatch.setattr(hanging, "run_again", lambda: again.append("again"))

    hanging._restart("its loop hangs")

    assert (again, hanging.restarting.is_set()) == ([], False)
    back.set()
    assert queue.drain(60) == []


@pytest.fixture
def hanging(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A worker that starts anew within moments, with threads and an end of its own."""
    workers = worker(harness, monkeypatch)
    monkeypatch.setattr(workers, "restarting", threading.Event())
    monkeypatch.setattr(workers, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(workers, "RESTART_SECONDS", 0.1)
    return workers


def test_a_worker_that_starts_anew_finishes_its_steps_first(
    hanging: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(hanging, "LOCK_SECONDS", 60)
    monkeypatch.setattr(hanging, "_finish", lambda _: order.append("finish"))
    monkeypatch.setattr(hanging, "run_again", lambda: order.append("again"))

    hanging._restart("its loop hangs")

    assert order == ["finish", "again"]
    assert hanging.begins_nothing()


def test_a_worker_starts_anew_although_its_loop_holds_a_lock(
    hanging: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops_lock, again, ended = threading.Lock(), threading.Event(), threading.Event()

    def finish(_: float) -> list[str]:
        with loops_lock:
            ended.set()
        return []

    monkeypatch.setattr(hanging, "_finish", finish)
    monkeypatch.setattr(hanging, "run_again", again.set)

    with loops_lock:
        threading.Thread(target=hanging._restart, args=("its loop hangs",), daemon=True).start()
        assert again.wait(60)
    assert ended.wait(60)
