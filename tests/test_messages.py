"""Nudges: gathered, sent in batches, and dropped when the broker is away."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
import pytest
import structlog
from celery import Celery, Task
from celery.contrib.testing.worker import start_worker
from kombu.exceptions import OperationalError
from redis import Redis

from orchestrator import messages
from orchestrator.cli.embedded_redis import EmbeddedRedis
from orchestrator.jobs.model import Step
from orchestrator.messages import (
    ARCHIVE_QUEUE,
    MAX_JOBS_PER_MESSAGE,
    QUEUE,
    TASKS,
    Broker,
    JobsByProvider,
    Nudger,
)

#: A window that only close() ends: what is nudged before is gathered.
ENDLESS = 3600.0
WAIT_SECONDS = 60.0


@dataclass
class Outbox:
    """What was sent; fails for as long as it is told."""

    sent: list[tuple[Step, list[str]]] = field(default_factory=list)
    messages: list[JobsByProvider] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, step: Step, jobs: JobsByProvider) -> None:
        try:
            if self.errors:
                raise self.errors.pop(0)
            self.sent.append((step, [job_id for job_ids in jobs.values() for job_id in job_ids]))
            self.messages.append(jobs)
        finally:
            self.arrived.release()


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


def test_what_comes_within_the_window_travels_in_one_message(outbox: Outbox) -> None:
    nudger = Nudger(outbox, window=ENDLESS)
    for number in range(5):
        nudger.nudge(Step.SUBMIT, [f"job_{number}"])

    nudger.close()

    assert outbox.sent == [(Step.SUBMIT, [f"job_{number}" for number in range(5)])]


def test_nudges_of_all_threads_are_gathered(outbox: Outbox) -> None:
    nudger = Nudger(outbox, window=ENDLESS)
    with ThreadPoolExecutor(8) as pool:
        for number in range(80):
            pool.submit(nudger.nudge, Step.SUBMIT, [f"job_{number}"])

    nudger.close()

    [(_, job_ids)] = outbox.sent
    assert sorted(job_ids) == sorted(f"job_{number}" for number in range(80))


def test_each_step_has_its_own_message(outbox: Outbox) -> None:
    nudger = Nudger(outbox, window=ENDLESS)
    nudger.nudge(Step.SUBMIT, ["job_1"])
    nudger.nudge(Step.POLL, ["job_2", "job_1"])

    nudger.close()

    assert outbox.sent == [(Step.SUBMIT, ["job_1"]), (Step.POLL, ["job_2", "job_1"])]


def test_a_job_is_named_once_in_a_window(outbox: Outbox) -> None:
    nudger = Nudger(outbox, window=ENDLESS)
    nudger.nudge(Step.SUBMIT, ["job_1", "job_2", "job_1"])
    nudger.nudge(Step.SUBMIT, ["job_2", "job_3"])

    nudger.close()

    assert outbox.sent == [(Step.SUBMIT, ["job_1", "job_2", "job_3"])]


def test_a_message_names_at_most_a_hundred_jobs(outbox: Outbox) -> None:
    job_ids = [f"job_{number}" for number in range(250)]
    nudger = Nudger(outbox, window=ENDLESS)
    nudger.nudge(Step.SUBMIT, job_ids)

    nudger.close()

    assert MAX_JOBS_PER_MESSAGE == 100
    assert [len(batch) for _, batch in outbox.sent] == [100, 100, 50]
    assert [job_id for _, batch in outbox.sent for job_id in batch] == job_ids


def test_a_busy_process_sends_in_rounds_and_the_first_at_once(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_ROUND_SECONDS", 0.3)
    nudger, begun = Nudger(outbox, window=0.001, pace=0.3), monotonic()

    nudger.nudge(Step.SUBMIT, ["job_1"])
    assert outbox.arrived.acquire(timeout=WAIT_SECONDS)
    for number in range(2, 5):
        nudger.nudge(Step.SUBMIT, [f"job_{number}"])
    assert outbox.arrived.acquire(timeout=WAIT_SECONDS)

    assert monotonic() - begun >= 0.3
    nudger.close()
    assert outbox.sent == [(Step.SUBMIT, ["job_1"]), (Step.SUBMIT, ["job_2", "job_3", "job_4"])]


def test_the_more_a_round_names_the_later_the_next_one_is(outbox: Outbox) -> None:
    nudger, begun = Nudger(outbox, window=0.001, pace=0), monotonic()

    for number in (1, 2):
        nudger.nudge(Step.SUBMIT, [f"job_{number}_{n}" for n in range(20)])
        assert outbox.arrived.acquire(timeout=WAIT_SECONDS)

    assert monotonic() - begun >= 20 * messages.ROUND_SECONDS_PER_JOB
    nudger.close()


def test_a_nudge_goes_out_by_itself_when_its_window_ends(outbox: Outbox) -> None:
    nudger = Nudger(outbox, window=0.001)

    nudger.nudge(Step.SUBMIT, ["job_1"])
    assert outbox.arrived.acquire(timeout=WAIT_SECONDS)
    nudger.nudge(Step.SUBMIT, ["job_1"])
    assert outbox.arrived.acquire(timeout=WAIT_SECONDS)

    nudger.close()
    assert outbox.sent == [(Step.SUBMIT, ["job_1"])] * 2


def test_nudging_nothing_sends_nothing_and_starts_nothing(outbox: Outbox) -> None:
    before = threading.active_count()
    nudger = Nudger(outbox)

    nudger.nudge(Step.SUBMIT, [])

    assert threading.active_count() == before
    nudger.close()
    assert outbox.sent == []


def test_closing_without_use_or_twice_does_no_harm(outbox: Outbox) -> None:
    unused, nudger = Nudger(outbox), Nudger(outbox, window=ENDLESS)
    unused.close()
    nudger.nudge(Step.SUBMIT, ["job_1"])

    nudger.close()
    nudger.close()

    assert outbox.sent == [(Step.SUBMIT, ["job_1"])]


@pytest.mark.parametrize(
    "error", [OperationalError("the broker is away"), ConnectionError("gone"), KeyError("a fault")]
)
def test_a_nudge_that_cannot_be_sent_is_dropped_and_the_next_one_goes_out(
    outbox: Outbox, error: Exception
) -> None:
    outbox.errors.append(error)
    nudger = Nudger(outbox, window=0.001)

    with structlog.testing.capture_logs() as logs:
        nudger.nudge(Step.SUBMIT, ["job_1", "job_2"])
        assert outbox.arrived.acquire(timeout=WAIT_SECONDS)
        nudger.nudge(Step.SUBMIT, ["job_3"])
        nudger.close()

    assert outbox.sent == [(Step.SUBMIT, ["job_3"])]
    [line] = [line for line in logs if line["event"] == "nudge_dropped"]
    assert (line["step"], line["jobs"], line["reason"]) == (Step.SUBMIT, 2, str(error))


def test_whoever_nudges_does_not_wait_for_the_broker() -> None:
    stuck, free = threading.Event(), threading.Event()

    def slow(step: Step, jobs: JobsByProvider) -> None:
        stuck.set()
        assert free.wait(WAIT_SECONDS)

    nudger = Nudger(slow, window=0)
    nudger.nudge(Step.SUBMIT, ["job_1"])
    assert stuck.wait(WAIT_SECONDS)

    nudger.nudge(Step.SUBMIT, ["job_2"])  # returns, although the broker holds the first one

    free.set()
    nudger.close()


def test_each_step_that_follows_is_nudged(outbox: Outbox) -> None:
    nudger = Nudger(outbox, window=ENDLESS)
    nudger.nudge_steps("job_1", [Step.ARCHIVE, Step.NOTIFY])
    nudger.nudge_steps("job_2", [Step.NOTIFY])
    nudger.nudge_steps("job_3", [])

    nudger.close()

    assert outbox.sent == [(Step.ARCHIVE, ["job_1"]), (Step.NOTIFY, ["job_1", "job_2"])]


def test_a_message_names_the_jobs_of_each_provider(outbox: Outbox) -> None:
    nudger = Nudger(outbox, window=ENDLESS)
    for number, provider in enumerate(["hiapi", "evolink", "hiapi"]):
        nudger.nudge(Step.SUBMIT, [f"job_{number}"], provider)

    nudger.close()

    assert outbox.messages == [{"hiapi": ["job_0", "job_2"], "evolink": ["job_1"]}]


# The broker ----------------------------------------------------------------------------------


def test_a_message_is_a_celery_task_with_its_jobs(redis_url: str, real_redis: Redis) -> None:
    Broker(redis_url).send(Step.POLL, {"hiapi": ["job_1", "job_2"]})

    [text] = real_redis.lrange(QUEUE, 0, -1)
    message = orjson.loads(text)
    assert message["headers"]["task"] == "orchestrator.poll"
    assert message["headers"]["eta"] is None
    assert message["headers"]["ignore_result"] is True
    body = orjson.loads(base64.b64decode(message["body"]))
    assert body[:2] == [[{"hiapi": ["job_1", "job_2"]}], {}]


def test_nudges_of_archives_have_a_queue_of_their_own(redis_url: str, real_redis: Redis) -> None:
    broker = Broker(redis_url)
    for step in Step:
        broker.send(step, {"": ["job_1"]})

    for queue, steps in ((ARCHIVE_QUEUE, {Step.ARCHIVE}), (QUEUE, {*Step} - {Step.ARCHIVE})):
        messages = map(orjson.loads, real_redis.lrange(queue, 0, -1))
        assert {each["headers"]["task"] for each in messages} == {TASKS[step] for step in steps}


def test_without_a_broker_sending_fails_as_the_nudger_expects() -> None:
    broker = Broker("redis://127.0.0.1:1/0")

    for _ in range(2):
        with pytest.raises(OperationalError):
            broker.send(Step.SUBMIT, {"hiapi": ["job_1"]})


def test_a_celery_worker_takes_a_task_by_its_name_with_the_messages_id(
    redis_url: str, real_redis: Redis
) -> None:
    seen: list[tuple[str, Any, Any]] = []
    arrived = threading.Event()

    with Celery(broker=redis_url, set_as_current=False) as service:
        service.conf.update(task_ignore_result=True, worker_enable_remote_control=False)

        @service.task(name="shop.told", bind=True)
        def told(self: Task, *args: Any, **named: Any) -> None:
            seen.append((self.request.id, args, named))
            arrived.set()

        with start_worker(service, pool="solo", perform_ping_check=False, queues=["shop"]):
            content = {"type": "job.succeeded", "data": {"prompt": "\U0001f98a", "n": 1.5}}
            Broker(redis_url).publish("shop.told", [content], queue="shop", message_id="msg_job_1")
            assert arrived.wait(WAIT_SECONDS)

    assert seen == [("msg_job_1", (content,), {})]


def test_a_broker_is_shared_by_threads(redis_url: str, real_redis: Redis) -> None:
    broker = Broker(redis_url)
    with ThreadPoolExecutor(8) as pool:
        for number in range(80):
            pool.submit(
                broker.publish, "shop.told", [number], queue="shop", message_id=f"msg_{number}"
            )

    texts: Any = real_redis.lrange("shop", 0, -1)
    ids = [orjson.loads(text)["headers"]["id"] for text in texts]
    assert sorted(ids) == sorted(f"msg_{number}" for number in range(80))


def test_threads_use_its_one_connection_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    in_use, together = threading.Lock(), threading.Barrier(4)
    overlaps: list[bool] = []

    class Watched:
        def __init__(self, _: Any) -> None:
            pass

        def publish(self, *_: Any, **__: Any) -> None:
            overlaps.append(not in_use.acquire(blocking=False))
            threading.Event().wait(0.01)
            if not overlaps[-1]:
                in_use.release()

    monkeypatch.setattr(messages, "Producer", Watched)
    broker = Broker("redis://127.0.0.1:1/0")

    def publish(number: int) -> None:
        together.wait(WAIT_SECONDS)
        broker.publish("shop.told", [number], queue="shop", message_id=f"msg_{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, range(4)))

    assert overlaps == [False] * 4


def test_a_broker_that_comes_back_is_found_again(redis_url: str, real_redis: Redis) -> None:
    broker = Broker(redis_url)
    broker.publish("shop.told", [1], queue="shop", message_id="msg_1")
    real_redis.client_kill_filter(_type="normal", skipme=True)

    broker.publish("shop.told", [2], queue="shop", message_id="msg_2")

    assert real_redis.llen("shop") == 2


def test_after_a_message_that_failed_the_broker_is_found_again(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        broker = Broker(redis.url)
        broker.send(Step.POLL, {"hiapi": ["job_1"]})
        redis.kill()
        for _ in range(2):
            with pytest.raises(OperationalError):
                broker.send(Step.POLL, {"hiapi": ["job_2"]})
        redis.start()

        broker.send(Step.POLL, {"hiapi": ["job_3"]})

        with Redis.from_url(redis.url) as client:
            assert b"job_3" in base64.b64decode(orjson.loads(client.lindex(QUEUE, 0))["body"])


def test_what_the_broker_refuses_fails_and_does_not_break_the_next(
    redis_url: str, real_redis: Redis
) -> None:
    broker = Broker(redis_url)
    real_redis.set("shop", "not a queue")

    with pytest.raises(OperationalError, match="WRONGTYPE"):
        broker.publish("shop.told", [1], queue="shop", message_id="msg_1")

    broker.publish("shop.told", [1], queue="other", message_id="msg_1")
    assert real_redis.llen("other") == 1
