"""The worker's tasks. None of them waits for a step, a sweep or a prune."""

from __future__ import annotations

import threading
from types import ModuleType

import pytest

from orchestrator.jobs.model import Step
from orchestrator.messages import TASKS
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.worker_app import worker
from workers.schedule import SWEEP_SECONDS


@pytest.fixture
def workers(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return worker(harness, monkeypatch)


@pytest.mark.parametrize("step", Step)
def test_a_nudge_gives_its_jobs_to_the_lanes(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    offered: list[tuple[Step, object]] = []
    monkeypatch.setattr(workers.lanes, "offer", lambda *args: offered.append(args))

    workers.app.tasks[TASKS[step]]({"hiapi": ["job-1", "job-2"]})

    assert offered == [(step, {"hiapi": ["job-1", "job-2"]})]


def test_a_nudge_of_an_earlier_version_is_left_to_the_sweep(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(workers.Lanes, "take")

    workers.app.tasks[TASKS[Step.SUBMIT]](["job-1"])


def test_the_scheduled_sweep_runs_outside_the_message_loop(
    harness: Harness, workers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = workers.app.conf.beat_schedule["sweep"]
    job_id = job_states.ended(harness)
    done, threads = threading.Event(), list[str]()

    def archive(_: object, archived: str) -> None:
        threads.append(archived)
        done.set()

    monkeypatch.setitem(workers.STEPS, Step.ARCHIVE, archive)
    workers.app.tasks[entry["task"]]()

    assert done.wait(60)
    assert threads == [job_id]
    assert harness.nudges.sent.count((Step.ARCHIVE, job_id)) <= 1, "no message announces it again"
    assert entry["schedule"].seconds == SWEEP_SECONDS


def test_a_prune_runs_outside_the_message_loop(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    done = threading.Event()

    def prune_now(_: object) -> list[str]:
        names.append(threading.current_thread().name)
        done.set()
        return []

    monkeypatch.setattr(workers, "prune_now", prune_now)
    workers.app.tasks[workers.app.conf.beat_schedule["prune"]["task"]]()

    assert done.wait(60)
    assert names == ["prune"]
