"""A process tells that it lives, removes its entry at its end, and needs no Redis to go on."""

from __future__ import annotations

import os
import threading

import pytest
import structlog

from orchestrator.heartbeat import Heartbeat
from orchestrator.ledger import keys
from orchestrator.ledger.processes import FORGOTTEN_MS, SILENT_MS
from orchestrator.ledger.refusals import FORMAT
from orchestrator.operations.check_redis import NEEDED_PROCESSES, missing_processes
from orchestrator.operations.stats import process_views
from tests.ledger.calls import PROCESS
from tests.support.fakes import Harness, unavailable_ledger


def test_a_process_is_listed_until_it_stops(harness: Harness) -> None:
    heartbeat = Heartbeat(harness.runtime, "worker")
    heartbeat.beat()
    harness.clock.forward(SILENT_MS / 1000)
    [view] = process_views(harness.runtime)
    assert (view["kind"], view["pid"], view["silent"]) == ("worker", os.getpid(), False)

    harness.clock.forward(1)
    assert process_views(harness.runtime)[0]["silent"]
    heartbeat.beat()
    [again] = process_views(harness.runtime)
    assert (again["silent"], again["started_at"]) == (False, view["started_at"])

    heartbeat.stop()
    assert harness.ledger.processes.known() == []


def test_a_child_neither_tells_nor_removes_the_entry_of_its_parent(harness: Harness) -> None:
    heartbeat = Heartbeat(harness.runtime, "web")
    heartbeat.beat()

    heartbeat.renew()
    heartbeat.stop()

    assert len(harness.ledger.processes.known()) == 1


def test_a_heartbeat_that_was_stopped_before_it_began_is_silent(harness: Harness) -> None:
    heartbeat = Heartbeat(harness.runtime, "web")
    heartbeat.stop()

    thread = threading.Thread(target=heartbeat._run, daemon=True)
    thread.start()
    thread.join(60)

    assert not thread.is_alive()
    assert harness.ledger.processes.known() == []


def test_a_stop_that_comes_before_a_record_leaves_no_entry(harness: Harness) -> None:
    heartbeat = Heartbeat(harness.runtime, "web")

    class Stopping:
        """A lock that is free when the process has just removed its entry."""

        def __enter__(self) -> None:
            heartbeat._stopped.set()

        def __exit__(self, *_: object) -> None:
            """Release it."""

    heartbeat._recording = Stopping()  # type: ignore[assignment]
    heartbeat._run()

    assert harness.ledger.processes.known() == []


def test_a_process_that_no_longer_fits_the_ledger_begins_nothing_and_says_it_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.redis.set(keys.FORMAT, FORMAT + 1)
    heartbeat, beats = Heartbeat(harness.runtime, "worker"), iter([False, False, True])
    monkeypatch.setattr(heartbeat._stopped, "wait", lambda _: None)
    monkeypatch.setattr(heartbeat._stopped, "is_set", lambda: next(beats, True))

    with structlog.testing.capture_logs() as lines:
        heartbeat._run()
        heartbeat._misfit = True
        heartbeat._run()

    assert [line["event"] for line in lines] == ["process_does_not_fit"]
    assert harness.ledger.installation.mismatch is not None
    assert len(harness.ledger.processes.known()) == 1, "it still tells that it lives"


def test_an_hour_of_silence_is_forgotten_by_the_next_process(harness: Harness) -> None:
    Heartbeat(harness.runtime, "beat").beat()
    harness.clock.forward(FORGOTTEN_MS / 1000 + 1)
    assert process_views(harness.runtime) == []

    Heartbeat(harness.runtime, "web").beat()
    assert [process.kind for process in harness.ledger.processes.known()] == ["web"]


def test_a_redis_that_is_away_disturbs_neither_the_run_nor_the_stop(harness: Harness) -> None:
    heartbeat = Heartbeat(harness.on(unavailable_ledger()).runtime, "web")
    heartbeat.start()
    heartbeat.stop()


def test_the_doctor_warns_of_each_kind_without_a_sign_of_life(harness: Harness) -> None:
    now = harness.ledger.installation.time()
    for kind, age in (("web", 0), ("worker", SILENT_MS + 60_000), ("worker", 0), ("beat", 60_000)):
        pid = PROCESS.pid + age
        process = type(PROCESS)(kind, "h", pid, "1", now - age, now - age)
        harness.ledger.processes.record(process)

    found = {result.fix: result.found for result in missing_processes(harness.ledger)}

    assert set(found) == {"start the beat process", "start the recorder process"}
    assert "s old" in found["start the beat process"]
    assert len(NEEDED_PROCESSES) == 4
