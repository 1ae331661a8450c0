"""The worker's tasks: which threads do which step."""

from __future__ import annotations

from types import ModuleType

import pytest

from orchestrator.jobs.model import Step
from orchestrator.messages import TASKS
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.worker_app import worker


@pytest.fixture
def workers(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return worker(harness, monkeypatch)


@pytest.mark.parametrize("step", Step)
def test_each_step_has_a_task_and_its_own_threads(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    taken: list[tuple[str, Step, list[str]]] = []
    for name in ("provider_steps", "archive_steps", "notify_steps"):
        monkeypatch.setattr(
            getattr(workers, name),
            "execute",
            lambda step, job_ids, name=name: taken.append((name, step, job_ids)),
        )

    workers.app.tasks[TASKS[step]](["job-1", "job-2"])

    threads = {Step.ARCHIVE: "archive_steps", Step.NOTIFY: "notify_steps"}.get(
        step, "provider_steps"
    )
    assert taken == [(threads, step, ["job-1", "job-2"])]


def test_what_follows_from_an_outcome_is_dropped_when_it_is_too_much(workers: ModuleType) -> None:
    assert workers.provider_steps._blocks
    for name, threads in (("archive_steps", 16), ("notify_steps", 64)):
        executor = getattr(workers, name)
        assert not executor._blocks
        assert executor._free._value == threads + workers.BACKLOG


def test_a_sweep_is_asked_for_and_nudges(harness: Harness, workers: ModuleType) -> None:
    entry = workers.app.conf.beat_schedule["sweep"]
    job_id = job_states.ended(harness)
    harness.nudges.sent.clear()

    workers.app.tasks[entry["task"]]()

    assert harness.nudges.sent == [(Step.ARCHIVE, job_id)]
    assert entry["schedule"] == workers.SWEEP_SECONDS
