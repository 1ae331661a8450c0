"""Processes that die, and a Redis that goes away, while jobs are under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from orchestrator.cli.stack import Stack, embedded_redis, free_port, procfile
from tests.support.providers import EXAMPLE_MODELS, POLLED_WITH_KEYS, POLLED_WITHOUT_KEYS
from tests.system.conftest import TIMES, Client, eventually


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Client]:
    """A stack of the test's own."""
    with Stack(task_seconds=0.4, settings=TIMES, folder=tmp_path) as stack:
        yield Client(stack)


def test_a_worker_killed_while_submitting_neither_loses_the_job_nor_pays_twice(
    own: Client,
) -> None:
    text = f"{uuid4()} [sandbox: hang=1.5]"
    jobs = {provider: own.enqueue(provider, text) for provider in EXAMPLE_MODELS}
    eventually(lambda: len(own.tasks(text)) == len(EXAMPLE_MODELS))
    own.stack.kill("worker")
    own.stack.start("worker")
    ended = {provider: own.outcome(job_id) for provider, job_id in jobs.items()}
    unknowable = ended.pop(POLLED_WITHOUT_KEYS)  # neither key nor callback
    assert unknowable["error"]["code"] == "submission_unconfirmed"
    assert {job["status"] for job in ended.values()} == {"succeeded"}
    assert {len(job["attempts"]) for job in ended.values()} == {1}
    assert len(own.tasks(text)) == len(EXAMPLE_MODELS)


def test_a_worker_that_has_no_time_left_to_finish_hands_its_step_back(tmp_path: Path) -> None:
    settings = {**TIMES, "ORCHESTRATOR_DRAIN_SECONDS": "0.2"}
    with Stack(task_seconds=0.4, settings=settings, folder=tmp_path) as stack:
        client, text = Client(stack), f"{uuid4()} [sandbox: hang=1.9]"
        job_id = client.enqueue(POLLED_WITH_KEYS, text)
        eventually(lambda: client.tasks(text))
        worker = stack.running.pop("worker")
        worker.terminate()
        assert worker.wait(60) == 0
        assert client.timeline(job_id) == ["created", "submitting"]
        assert job_id in stack.log("worker")
        stack.start("worker")
        job = client.outcome(job_id)
        assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
        (task,) = client.tasks(text)
        assert task["submissions"] == 2


def test_two_beats_and_two_workers_do_every_step_once(own: Client) -> None:
    for name in ("worker", "beat"):
        own.stack.start(f"other {name}", ["/bin/sh", "-c", f"exec {procfile()[name]}"])
    text = f"{uuid4()} [sandbox: drop]"
    jobs = [own.enqueue(provider, text) for provider in ("hiapi", "evolink") * 20]
    ended = [own.outcome(job_id) for job_id in jobs]
    assert {job["status"] for job in ended} == {"succeeded"}
    assert {len(job["attempts"]) for job in ended} == {1}
    assert [task["submissions"] for task in own.tasks(text)] == [1] * len(jobs)
    assert all(own.timeline(job_id).count("settled") == 1 for job_id in jobs)
    assert own.stack.dead() is None


def test_beat_and_web_killed_and_started_again_lose_nothing(own: Client) -> None:
    text = str(uuid4())
    first = own.enqueue("evolink", text)
    own.stack.kill("web")
    own.stack.kill("beat")
    own.stack.start("beat")
    own.stack.start("web")
    own.stack.wait_for("web", f"{own.stack.web_url}/healthz")
    assert own.outcome(first)["status"] == "succeeded"
    assert own.outcome(own.enqueue("hiapi", text))["status"] == "succeeded"
    assert len(own.tasks(text)) == 2


def test_workers_and_web_come_back_by_themselves_after_a_redis_restart(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as closing:
        redis = ExitStack()
        closing.push(redis)
        url = redis.enter_context(embedded_redis(tmp_path / "redis", port))
        settings = {**TIMES, "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": "3"}
        stack = Stack(redis_url=url, task_seconds=2, settings=settings, folder=tmp_path)
        client = Client(closing.enter_context(stack))
        text = str(uuid4())
        before = [client.enqueue(provider, text) for provider in ("hiapi", "evolink")]
        eventually(lambda: len(client.tasks(text)) == 2)
        redis.close()
        redis.enter_context(embedded_redis(tmp_path / "redis", port))
        jobs = [client.outcome(job_id) for job_id in before]
        after = client.outcome(client.enqueue("hiapi", text))
        assert {job["status"] for job in [*jobs, after]} == {"succeeded"}
        assert len(client.tasks(text)) == 3
        assert stack.dead() is None


def test_without_a_public_url_every_job_is_polled(tmp_path: Path) -> None:
    settings = {**TIMES, "ORCHESTRATOR_PUBLIC_URL": ""}
    with Stack(task_seconds=0.4, settings=settings, folder=tmp_path) as stack:
        client, text = Client(stack), str(uuid4())
        jobs = [client.enqueue(provider, text) for provider in ("hiapi", "evolink")]
        assert {client.outcome(job)["settled_by"] for job in jobs} == {"poll"}
        assert {task["callback_url"] for task in client.tasks(text)} == {None}
