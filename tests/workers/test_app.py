"""The worker's tasks. None of them waits for a step, a sweep or a prune."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import structlog
from celery.app.trace import build_tracer
from redis import Redis

from orchestrator.clock import LedgerClock
from orchestrator.enqueuing import create_job
from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerMismatch, LedgerUnavailable
from orchestrator.messages import ARCHIVE_QUEUE, QUEUE, SENT_MS, TASKS
from tests.ledger.kit import eventually
from tests.support import job_states
from tests.support.fakes import Harness, use_runtime
from tests.support.providers import EXAMPLE_REQUESTS
from tests.support.worker_app import end_sweeps, worker


@pytest.fixture
def workers(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = worker(harness, monkeypatch)
    yield module
    end_sweeps(module)


def test_a_worker_outlives_a_broker_that_refuses_writes(workers: ModuleType) -> None:
    # Without this setting Celery ends the worker, and the Procfile does not start it again.
    assert workers.app.conf.broker_channel_error_retry


def test_a_dead_connection_to_rabbitmq_is_noticed_within_half_a_minute(
    start: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = worker(start(ORCHESTRATOR_BROKER_URL="amqp://127.0.0.1:1//"), monkeypatch).app.conf

    assert 0 < conf.broker_heartbeat <= 15, "a consumer waits for two heartbeats"
    # beat only sends: without a confirm it would send into nothing.
    options = [entry["options"] for entry in conf.beat_schedule.values()]
    assert all(0 < each["confirm_timeout"] <= 15 for each in options)


def test_a_worker_sends_a_message_to_itself_and_notes_its_arrival(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch, redis_url: str, real_redis: Redis
) -> None:
    monkeypatch.setattr(workers, "broker_url", lambda: redis_url)
    queues, heard = workers.OwnQueues(), list[str]()
    monkeypatch.setattr(workers, "watches", [SimpleNamespace(heard=lambda: heard.append("now"))])

    queues.ping()

    assert queues.waiting() == 1
    assert workers.PING in str(real_redis.lindex(QUEUE, 0))
    workers.app.tasks[workers.PING]()
    workers.app.tasks[TASKS[Step.SUBMIT]]({})
    assert heard == ["now"] * 2


@pytest.mark.parametrize("step", Step)
def test_a_nudge_gives_its_jobs_to_the_lanes(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    offered: list[tuple[Step, object]] = []
    monkeypatch.setattr(workers.lanes, "offer", lambda *args: offered.append(args))

    workers.app.tasks[TASKS[step]]({"hiapi": ["job-1", "job-2"]})

    assert offered == [(step, {"hiapi": ["job-1", "job-2"]})]


def test_a_worker_reads_both_queues_unless_it_is_told_otherwise(workers: ModuleType) -> None:
    assert {*workers.app.amqp.queues.consume_from} == {QUEUE, ARCHIVE_QUEUE}
    assert all(workers.lanes.room().follow_ups.values())


@pytest.mark.parametrize("queue", [QUEUE, ARCHIVE_QUEUE])
def test_a_worker_has_room_for_the_steps_of_its_queues_only(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    monkeypatch.setattr(workers.app.amqp.queues, "_consume_from", {queue: None})

    room = workers.lanes.room()

    archives = queue == ARCHIVE_QUEUE
    assert (room.follow_ups[Step.ARCHIVE] > 0) is archives
    assert {room.follow_ups[step] > 0 for step in (Step.NOTIFY, Step.BATCH)} == {not archives}
    assert (room.for_providers > 0) is not archives


def test_a_worker_that_does_not_fit_the_ledger_begins_no_step(
    harness: Harness, workers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workers.lanes.room().for_providers
    monkeypatch.setattr(harness.ledger.installation, "mismatch", LedgerMismatch("newer"))

    room = workers.lanes.room()

    assert (room.for_providers, sum(room.follow_ups.values())) == (0, 0)
    job = create_job(harness.runtime, EXAMPLE_REQUESTS["hiapi"], scope="tests").job
    workers.app.tasks[TASKS[Step.SUBMIT]]({"hiapi": [job.id]})
    lanes = (*workers.lanes.providers.values(), workers.lanes.others)
    eventually(lambda: not any(lane._held.total() for lane in lanes))
    assert harness.provider.requests == []
    monkeypatch.setattr(workers.sweeper, "sweep", lambda: pytest.fail("it must not sweep"))
    workers.app.tasks["orchestrator.reconcile"]()


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
    assert entry["schedule"].seconds == harness.runtime.settings.sweep_seconds == 1


def test_a_sweep_goes_on_with_bulk_actions_outside_the_message_loop(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    done = threading.Event()

    def act(*_: object) -> int:
        names.append(threading.current_thread().name)
        done.set()
        return 0

    monkeypatch.setattr(workers, "act_on_parts", act)
    workers.app.tasks[workers.app.conf.beat_schedule["sweep"]["task"]]()

    assert done.wait(60)
    assert names == ["bulk"]


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


def test_a_prune_that_breaks_off_says_so_in_the_log(
    workers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prune_now(_: object) -> list[str]:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(workers, "prune_now", prune_now)
    with structlog.testing.capture_logs() as logs:
        workers._prune()

    assert [(line["event"], line["log_level"]) for line in logs] == [("prune_crashed", "error")]


def test_a_fresh_nudge_is_due_for_a_worker_whose_clock_is_behind(
    harness: Harness, workers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = LedgerClock(lambda: harness.clock.now - 145, LedgerUnavailable, lambda: 0)
    job_id = harness.enqueue("hiapi")
    use_runtime(monkeypatch, replace(harness.runtime, clock=behind))
    claimed: list[object] = []

    def claim(_: Step, jobs: dict[str, list[str]]) -> None:
        now = behind()
        claimed.append(harness.ledger.claim(jobs["hiapi"][0], Step.SUBMIT, now=now, lease_ms=1))

    monkeypatch.setattr(workers.lanes, "offer", claim)
    task = workers.app.tasks[TASKS[Step.SUBMIT]]
    for headers in ({}, {SENT_MS: harness.clock.now}):
        # As Celery's worker does it: the headers of the message are the fields of the request.
        trace = build_tracer(task.name, task, app=workers.app)
        request = {"id": "a-message", "task": task.name, **headers}
        assert trace("a-message", [{"hiapi": [job_id]}], {}, request).info is None

    assert claimed[0] is None, "without the sender's time it is not due"
    assert claimed[1] is not None
