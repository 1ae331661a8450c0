"""Sweeps do not depend on the clocks of hosts."""

from __future__ import annotations

from pkgutil import resolve_name
from time import monotonic
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from celery.beat import Scheduler

from tests.support.fakes import Harness
from tests.support.worker_app import worker
from workers import schedule
from workers.beat_scheduler import WatchedScheduler


@pytest.fixture
def workers(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return worker(harness, monkeypatch)


@pytest.mark.parametrize("name", ["sweep", "prune"])
def test_no_message_of_beat_has_a_time_of_its_host(name: str) -> None:
    options = schedule.beat_schedule(1.0)[name].get("options", {})

    assert {"expires", "eta", "countdown"} & set(options) == set()


class Recorder(Scheduler):  # type: ignore[misc]
    """Beat's scheduler. It records the entries in place of sending them."""

    sent: list[str]

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        self.sent.append(entry.name)

    @property
    def producer(self) -> Any:
        return None


def test_beat_tells_its_watch_that_it_runs(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[str] = []
    watch = SimpleNamespace(tick=lambda: ticks.append("tick"))
    monkeypatch.setattr(WatchedScheduler, "watch", watch)

    resolve_name(workers.app.conf.beat_scheduler)(workers.app, schedule={}, lazy=True).tick()

    assert ticks == ["tick"]


def test_beat_keeps_time_by_a_clock_that_never_jumps(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = monotonic()
    monkeypatch.setattr(schedule, "monotonic", lambda: seconds)
    Recorder.sent = []
    entries = workers.app.conf.beat_schedule
    scheduler = Recorder(workers.app, schedule={}, lazy=True)
    scheduler.update_from_dict(entries)
    assert scheduler.tick() > 0
    for _ in range(50):
        seconds += 0.1
        while scheduler.tick() == 0:
            pass

    assert Recorder.sent.count("sweep") in {4, 5}, "the host's own clock has hardly moved"
