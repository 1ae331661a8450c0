"""The worker's tasks: which threads do which step."""

from __future__ import annotations

from types import ModuleType

import pytest

from orchestrator.jobs import Step
from orchestrator.nudges import TASKS
from tests import lives
from tests.fakes import World
from tests.worker import worker


@pytest.fixture
def workers(world: World, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return worker(world, monkeypatch)


@pytest.mark.parametrize("step", Step)
def test_each_step_has_a_task_and_its_own_threads(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    taken: list[tuple[str, Step, list[str]]] = []
    for name in ("crew", "archivists", "messengers"):
        monkeypatch.setattr(
            getattr(workers, name),
            "take",
            lambda step, job_ids, name=name: taken.append((name, step, job_ids)),
        )

    workers.app.tasks[TASKS[step]](["job-1", "job-2"])

    threads = {Step.ARCHIVE: "archivists", Step.NOTIFY: "messengers"}.get(step, "crew")
    assert taken == [(threads, step, ["job-1", "job-2"])]


def test_what_follows_from_an_outcome_is_dropped_when_it_is_too_much(workers: ModuleType) -> None:
    assert workers.crew._holds_back
    for name, threads in (("archivists", 16), ("messengers", 64)):
        crew = getattr(workers, name)
        assert not crew._holds_back
        assert crew._free._value == threads + workers.BACKLOG


def test_a_sweep_is_asked_for_and_nudges(world: World, workers: ModuleType) -> None:
    entry = workers.app.conf.beat_schedule["sweep"]
    job_id = lives.ended(world)
    world.nudges.sent.clear()

    workers.app.tasks[entry["task"]]()

    assert world.nudges.sent == [(Step.ARCHIVE, job_id)]
    assert entry["schedule"] == workers.SWEEP_SECONDS
