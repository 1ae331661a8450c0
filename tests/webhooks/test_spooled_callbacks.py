"""Callbacks while Redis is away: spooled, and brought to the ledger when it is back."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask import Flask
from redis import Redis

from orchestrator.callbacks import drain as drain_module
from orchestrator.callbacks import spool as spool_module
from orchestrator.callbacks.drain import SpoolDrainer
from orchestrator.callbacks.spool import Entry, Spool
from orchestrator.jobs.model import Status, Step
from orchestrator.ledger import Ledger, LedgerUnavailable, Result, Settlement
from orchestrator.steps.acceptance import record_spooled
from tests.ledger import kit
from tests.support.fakes import Harness
from tests.webhooks.kit import (
    FAILURE,
    ON_ITS_WAY,
    SECRET,
    SUCCESS,
    TASK,
    Receiver,
    another_job_id,
    signed,
)
from webhooks import receiver as receiver_module
from webhooks.app import create_app


class FailingLedger(Ledger):
    """The ledger of a Redis that is away while `away`; `calls` are those that reached it."""

    away = False
    #: Raised in place of the answer, after the transition, at the next call.
    lost: Exception | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        keep = self.rejected.keep
        self.rejected.keep = lambda *a, **o: self._check() or keep(*a, **o)  # type: ignore[method-assign, func-returns-value]

    def settle_attempt(self, *args: Any, **options: Any) -> Settlement:
        self._check()
        settlement = super().settle_attempt(*args, **options)
        self._answered(settlement.result)
        return settlement

    def observe(self, *args: Any, **options: Any) -> Settlement:
        self._check()
        settlement = super().observe(*args, **options)
        self._answered(settlement.result)
        return settlement

    def _check(self) -> None:
        if self.away:
            raise LedgerUnavailable("away")

    def _answered(self, result: Result) -> Result:
        lost, self.lost = self.lost, None
        if lost:
            raise lost
        return result


@dataclass
class SpoolScene:
    """A receiver with a spool, on a ledger that can go away."""

    receiver: Receiver
    ledger: FailingLedger
    spool: Spool
    drainer: SpoolDrainer

    @contextmanager
    def away(self) -> Iterator[None]:
        self.ledger.away = True
        yield
        self.ledger.away = False

    def spooled(self, *bodies: Any, provider: str = "hiapi") -> str:
        """A running job whose callbacks were spooled."""
        job_id = self.receiver.running(provider)
        with self.away():
            for body in bodies:
                answer = self.receiver.deliver(job_id, body, provider)
                assert (answer.status_code, answer.json) == (200, {"result": "spooled"})
        return job_id

    def status(self, job_id: str) -> Status:
        return self.receiver.job(job_id).status


Open = Callable[..., SpoolScene]


@pytest.fixture
def open_scene(start: Callable[..., Harness], real_redis: Redis, tmp_path: Path) -> Open:
    def begin(**variables: str | None) -> SpoolScene:
        folder = tmp_path / "spool"
        harness = start(ORCHESTRATOR_SPOOL_DIR=str(folder), **variables)
        ledger = FailingLedger(lambda: real_redis)
        harness = replace(harness.on(ledger), redis=real_redis)
        app, spool = Flask("receiver"), Spool(folder)
        drainer = SpoolDrainer(harness.runtime, spool, record_spooled)
        drainer.close()  # the tests drain themselves: its thread ends as soon as it begins
        receiver_module.install(app, receiver_module.Receiver(harness.runtime, drainer))
        return SpoolScene(Receiver(harness, app.test_client()), ledger, spool, drainer)

    return begin


@pytest.fixture
def scene(open_scene: Open) -> SpoolScene:
    return open_scene()


def fresh(scene: SpoolScene) -> SpoolDrainer:
    """Another process' drainer; its thread is not started."""
    return SpoolDrainer(scene.receiver.harness.runtime, scene.spool, record_spooled)


# Into the spool ------------------------------------------------------------------------------


def test_the_application_has_a_drainer_if_there_is_a_spool(scene: SpoolScene) -> None:
    runtime = scene.receiver.harness.runtime
    app = create_app(runtime)
    receiver = Receiver(scene.receiver.harness, app.test_client())
    app.extensions["drainer"].close()
    job_id = receiver.running()
    with scene.away():
        assert receiver.deliver(job_id, SUCCESS["hiapi"]).json == {"result": "spooled"}
    assert len(scene.spool.waiting()) == 1

    without = replace(runtime, settings=replace(runtime.settings, spool_dir=None))
    assert create_app(without).extensions["drainer"] is None


@pytest.mark.parametrize("provider", sorted(SUCCESS))
def test_a_callback_that_cannot_be_stored_is_spooled_and_settles_later(
    scene: SpoolScene, provider: str
) -> None:
    job_id = scene.spooled(SUCCESS[provider], provider=provider)
    assert scene.status(job_id) is Status.RUNNING

    assert fresh(scene).drain() is False

    job = scene.receiver.job(job_id)
    assert (job.status, job.settled_by) == (Status.SUCCEEDED, "callback")
    assert scene.spool.waiting() == []


def test_while_the_ledger_answers_nothing_is_spooled(scene: SpoolScene) -> None:
    job_id = scene.receiver.running()
    scene.receiver.deliver(job_id, SUCCESS["hiapi"])

    assert not scene.spool.folder.exists()


def test_only_what_is_verified_is_spooled(open_scene: Open) -> None:
    scene = open_scene(HIAPI_WEBHOOK_SECRET=SECRET)
    receiver, job_id = scene.receiver, scene.receiver.running()
    path, good = receiver.path(job_id), b'{"taskId":"task-1","status":"success"}'
    now = receiver.harness.clock() // 1000
    with scene.away():
        statuses = [
            receiver.send(f"{path}A", good, headers=signed(good, now)).status_code,
            receiver.send(path, good).status_code,
            receiver.send(path, b"no JSON", headers=signed(b"no JSON", now)).status_code,
            receiver.send(path, b" " * 300_000).status_code,
        ]

    assert statuses == [404, 401, 503, 503]
    assert not scene.spool.folder.exists()


def test_the_body_is_kept_as_it_came(scene: SpoolScene) -> None:
    raw = b' {"taskId":"task-1",\r\n "status":"success", "output":[]}\n\n'
    job_id = scene.spooled(raw)

    [name] = scene.spool.waiting()
    received = scene.receiver.harness.clock()
    assert scene.spool.load(name) == Entry("hiapi", job_id, 1, received, raw)


def test_no_file_holds_a_token_or_a_signature(open_scene: Open) -> None:
    scene = open_scene(HIAPI_WEBHOOK_SECRET=SECRET)
    job_id, body = scene.receiver.running(), b'{"taskId":"task-1","status":"success"}'
    path = scene.receiver.path(job_id)
    headers = signed(body, scene.receiver.harness.clock() // 1000)
    with scene.away():
        assert scene.receiver.send(path, body, headers=headers).json == {"result": "spooled"}

    [name] = scene.spool.waiting()
    content = name.encode() + (scene.spool.folder / name).read_bytes()
    for hidden in (path.rpartition("/")[2], headers["X-HiAPI-Signature"], SECRET):
        assert hidden.encode() not in content


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_where_the_disk_refuses_the_provider_is_told_to_deliver_again(
    scene: SpoolScene, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    job_id = scene.receiver.running()
    with scene.away():
        answer = scene.receiver.deliver(job_id, SUCCESS["hiapi"])

    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert scene.spool.waiting() == []


def test_where_the_spool_is_full_the_provider_is_told_to_deliver_again(
    scene: SpoolScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_FILES", 1)
    scene.spooled(SUCCESS["hiapi"])
    job_id = scene.receiver.running()
    with scene.away():
        assert scene.receiver.deliver(job_id, SUCCESS["hiapi"]).status_code == 503


def test_each_spooled_callback_is_one_log_line_that_names_its_job(scene: SpoolScene) -> None:
    with structlog.testing.capture_logs() as logs:
        job_id = scene.spooled(SUCCESS["hiapi"])

    [line] = [line for line in logs if line["event"] == "callback_spooled"]
    assert line == {**line, "job": job_id, "provider": "hiapi", "attempt": 1}
    assert TASK not in str(logs)


# Out of the spool ----------------------------------------------------------------------------


def test_callbacks_are_brought_in_the_order_in_which_they_came(scene: SpoolScene) -> None:
    first = scene.spooled(ON_ITS_WAY["hiapi"], SUCCESS["hiapi"], FAILURE["hiapi"])

    fresh(scene).drain()

    assert scene.status(first) is Status.SUCCEEDED
    assert scene.receiver.harness.events(first)[-2:] == ["settled", "conflict"]


def test_links_live_from_the_receipt_and_not_from_the_draining(scene: SpoolScene) -> None:
    job_id, received = scene.spooled(SUCCESS["evolink"], provider="evolink"), scene.receiver.harness
    before = received.clock()
    received.clock.forward(7200)

    fresh(scene).drain()

    job = scene.receiver.job(job_id)
    assert job.images[0].expires_at == before + 86_400_000
    assert job.settled_at == before + 7_200_000


def test_a_job_that_was_settled_meanwhile_keeps_its_outcome(scene: SpoolScene) -> None:
    same, other = scene.spooled(SUCCESS["hiapi"]), scene.spooled(SUCCESS["hiapi"])
    scene.receiver.deliver(same, SUCCESS["hiapi"])
    scene.receiver.deliver(other, FAILURE["hiapi"])

    fresh(scene).drain()

    assert (scene.status(same), scene.status(other)) == (Status.SUCCEEDED, Status.FAILED)
    assert scene.receiver.harness.events(same)[-1] == "duplicate"
    assert scene.receiver.harness.events(other)[-1] == "late_result"
    assert scene.spool.waiting() == []


def test_a_job_that_is_gone_and_one_of_another_task_are_done_with(scene: SpoolScene) -> None:
    scene.spooled({**SUCCESS["hiapi"], "taskId": "another"})
    scene.spool.keep(Entry("hiapi", another_job_id(), 1, 1, b'{"taskId":"x","status":"success"}'))

    assert fresh(scene).drain() is False
    assert scene.spool.waiting() == []


def test_in_confirm_mode_a_spooled_callback_asks_for_a_poll(open_scene: Open) -> None:
    scene = open_scene(HIAPI_CONFIRM_CALLBACKS="1")
    job_id = scene.spooled(SUCCESS["hiapi"])
    scene.receiver.harness.nudges.sent.clear()

    fresh(scene).drain()

    assert scene.status(job_id) is Status.RUNNING
    assert scene.receiver.harness.nudges.sent == [(Step.POLL, job_id)]


def test_while_the_ledger_is_still_away_everything_stays_and_it_is_asked_once_a_round(
    scene: SpoolScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.spooled(SUCCESS["hiapi"], SUCCESS["hiapi"], SUCCESS["hiapi"])
    names, asked = scene.spool.waiting(), []

    def away() -> None:
        asked.append(True)
        raise LedgerUnavailable("away")

    monkeypatch.setattr(scene.ledger, "_check", away)
    assert fresh(scene).drain() is True

    assert (scene.spool.waiting(), len(asked)) == (names, 1)


def test_an_outage_in_the_middle_loses_and_doubles_nothing(scene: SpoolScene) -> None:
    jobs = [scene.spooled(SUCCESS["hiapi"]) for _ in range(3)]
    recorded = scene.ledger.settle_attempt
    done: list[str] = []

    def once(job_id: str, *args: Any, **options: Any) -> Settlement:
        if done:
            raise LedgerUnavailable("away again")
        done.append(job_id)
        return recorded(job_id, *args, **options)

    scene.ledger.settle_attempt = once  # type: ignore[method-assign]
    assert fresh(scene).drain() is True
    assert (done, len(scene.spool.waiting())) == (jobs[:1], 2)

    scene.ledger.settle_attempt = recorded  # type: ignore[method-assign]
    assert fresh(scene).drain() is False
    assert {scene.status(job_id) for job_id in jobs} == {Status.SUCCEEDED}


def test_an_answer_that_was_lost_leads_to_a_duplicate_and_no_more(scene: SpoolScene) -> None:
    job_id = scene.spooled(SUCCESS["hiapi"])
    scene.ledger.lost = LedgerUnavailable("no answer")
    assert fresh(scene).drain() is True
    assert scene.status(job_id) is Status.SUCCEEDED

    assert fresh(scene).drain() is False
    assert scene.receiver.harness.events(job_id).count("settled") == 1


def test_a_crash_before_the_file_is_removed_leads_to_a_duplicate_and_no_more(
    scene: SpoolScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = scene.spooled(SUCCESS["hiapi"])

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            fresh(scene).drain()
    assert scene.status(job_id) is Status.SUCCEEDED

    assert fresh(scene).drain() is False
    events = scene.receiver.harness.events(job_id)
    assert (events.count("settled"), events.count("duplicate")) == (1, 1)


def test_what_is_no_entry_is_put_aside_with_one_line_and_holds_nothing_up(
    scene: SpoolScene,
) -> None:
    job_id = scene.spooled(SUCCESS["hiapi"])
    (scene.spool.folder / "000.callback").write_bytes(b"torn")

    with structlog.testing.capture_logs() as logs:
        assert fresh(scene).drain() is False

    assert scene.status(job_id) is Status.SUCCEEDED
    assert (scene.spool.waiting(), scene.spool.bad()) == ([], ["000.callback.bad"])
    [line] = [line for line in logs if line["event"] == "spool_entry_unreadable"]
    assert line["file"] == "000.callback"
    assert "torn" not in str(line)


def test_what_a_mistake_of_ours_stops_stays_and_holds_nothing_up(scene: SpoolScene) -> None:
    broken, good = scene.spooled(SUCCESS["hiapi"]), scene.spooled(SUCCESS["hiapi"])
    scene.ledger.lost = ZeroDivisionError("a mistake")

    with structlog.testing.capture_logs() as logs:
        assert fresh(scene).drain() is True

    assert (scene.status(broken), scene.status(good)) == (Status.SUCCEEDED, Status.SUCCEEDED)
    assert len(scene.spool.waiting()) == 1
    assert [line["event"] for line in logs].count("spool_entry_failed") == 1


def test_a_provider_that_is_switched_off_keeps_its_callbacks_waiting(scene: SpoolScene) -> None:
    job_id = scene.spooled(SUCCESS["hiapi"])
    off = scene.receiver.harness.provider_off()

    with structlog.testing.capture_logs() as logs:
        assert SpoolDrainer(off.runtime, scene.spool, record_spooled).drain() is True
    assert [line["event"] for line in logs] == ["spool_entry_delayed"]
    assert (len(scene.spool.waiting()), scene.status(job_id)) == (1, Status.RUNNING)


def test_what_an_adapter_does_not_understand_any_more_is_rejected(scene: SpoolScene) -> None:
    scene.spool.keep(Entry("hiapi", another_job_id(), 1, 1, b"no JSON"))
    with scene.away():
        assert fresh(scene).drain() is True

    assert fresh(scene).drain() is False
    [kept] = scene.ledger.rejected.page(9)
    assert kept.body == "no JSON"


# The thread ----------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_WAIT_SECONDS", "LONGEST_WAIT_SECONDS", "CHECK_INTERVAL_SECONDS"):
        monkeypatch.setattr(drain_module, name, 0.01)


def test_the_first_spooled_callback_starts_a_thread_that_drains_when_the_ledger_is_back(
    scene: SpoolScene, quick: None
) -> None:
    drainer = fresh(scene)
    job_id, now = scene.receiver.running(), scene.receiver.harness.clock()
    with scene.away():
        drainer.keep(Entry("hiapi", job_id, 1, now, b'{"taskId":"task-1","status":"fail"}'))
    try:
        kit.eventually(lambda: scene.status(job_id) is Status.FAILED)
        kit.eventually(lambda: not scene.spool.waiting())
    finally:
        drainer.close()


def test_a_process_that_starts_drains_what_another_one_left(scene: SpoolScene, quick: None) -> None:
    job_id, drainer = scene.spooled(SUCCESS["hiapi"]), fresh(scene)
    drainer.start()
    try:
        kit.eventually(lambda: scene.status(job_id) is Status.SUCCEEDED)
    finally:
        drainer.close()


def test_of_two_drainers_one_brings_each_callback(scene: SpoolScene, quick: None) -> None:
    jobs = [scene.spooled(SUCCESS["hiapi"]) for _ in range(30)]
    drainers = [fresh(scene), fresh(scene)]
    for drainer in drainers:
        drainer.start()
    try:
        kit.eventually(lambda: not scene.spool.waiting())
    finally:
        for drainer in drainers:
            drainer.close()

    for job_id in jobs:
        events = scene.receiver.harness.events(job_id)
        assert (events.count("settled"), events.count("duplicate")) == (1, 0)


def test_while_another_one_drains_nothing_is_taken(scene: SpoolScene) -> None:
    job_id = scene.spooled(SUCCESS["hiapi"])
    with Spool(scene.spool.folder).locked():
        assert fresh(scene).drain() is True

    assert scene.status(job_id) is Status.RUNNING


def test_a_drainer_that_is_told_to_stop_finishes_the_entry_in_hand_and_no_other(
    scene: SpoolScene, quick: None
) -> None:
    jobs = [scene.spooled(SUCCESS["hiapi"]) for _ in range(3)]
    recorded, reached, go_on = scene.ledger.settle_attempt, threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> Settlement:
        reached.set()
        assert go_on.wait(60)
        return recorded(*args, **options)

    scene.ledger.settle_attempt = slow  # type: ignore[method-assign]
    drainer = fresh(scene)
    drainer.start()
    assert reached.wait(60)
    threading.Timer(0.05, go_on.set).start()
    drainer.close()

    assert [scene.status(job_id) for job_id in jobs].count(Status.SUCCEEDED) == 1
    assert len(scene.spool.waiting()) == 2


def test_a_folder_that_cannot_be_read_does_not_end_the_thread(
    scene: SpoolScene, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, drainer = scene.spooled(SUCCESS["hiapi"]), fresh(scene)
    failed = threading.Event()

    def refuse(_: Spool) -> list[str]:
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    with structlog.testing.capture_logs() as logs:
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "waiting", refuse)
            drainer.start()
            assert failed.wait(60)
        try:
            kit.eventually(lambda: scene.status(job_id) is Status.SUCCEEDED)
        finally:
            drainer.close()
    assert [line["event"] for line in logs].count("spool_failed") == 1
