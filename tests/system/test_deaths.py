"""Processes that die while jobs are under way. test_redis_away kills Redis."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests

from orchestrator.cli.processes import process_command
from tests.support.providers import EXAMPLE_MODELS, POLLED_WITH_KEYS, POLLED_WITHOUT_KEYS
from tests.system.conftest import Client, eventually

#: The limit of HiAPI in the test of limits. Tasks.
MAX_IN_FLIGHT = 3


@pytest.fixture
def brief(own: Client) -> Iterator[Client]:
    """The stack with a worker whose leases end soon. The tests wait for the end of one."""
    own.stack.kill("worker")
    start_worker(own)
    yield own
    own.stack.kill("worker")
    own.stack.start("worker")


def start_worker(brief: Client) -> None:
    brief.stack.start("worker", [sys.executable, "-m", "tests.support.brief_worker"])


def test_a_worker_killed_while_submitting_neither_loses_the_job_nor_pays_twice(
    brief: Client,
) -> None:
    text = f"{uuid4()} [sandbox: hang=1.5]"
    jobs = {provider: brief.enqueue(provider, text) for provider in EXAMPLE_MODELS}
    eventually(lambda: len(brief.tasks(text)) == len(EXAMPLE_MODELS))
    brief.stack.kill("worker")
    start_worker(brief)
    ended = {provider: brief.outcome(job_id) for provider, job_id in jobs.items()}
    unknowable = ended.pop(POLLED_WITHOUT_KEYS)  # neither key nor callback
    assert unknowable["error"]["code"] == "submission_unconfirmed"
    assert {job["status"] for job in ended.values()} == {"succeeded"}
    assert {len(job["attempts"]) for job in ended.values()} == {1}
    assert len(brief.tasks(text)) == len(EXAMPLE_MODELS)


def test_a_worker_that_has_no_time_left_to_finish_hands_its_step_back(brief: Client) -> None:
    text = f"{uuid4()} [sandbox: hang=6]"
    job_id = brief.enqueue(POLLED_WITH_KEYS, text)
    eventually(lambda: brief.tasks(text))
    worker = brief.stack.running.pop("worker")
    worker.terminate()
    assert worker.wait(60) == 0
    assert brief.timeline(job_id) == ["created", "submitting"]
    assert job_id in brief.stack.log("worker")
    start_worker(brief)
    job = brief.outcome(job_id)
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    (task,) = brief.tasks(text)
    assert task["submissions"] == 2


def test_two_beats_and_two_workers_do_every_step_once(own: Client) -> None:
    for name in ("worker", "beat"):
        own.stack.start(f"other {name}", process_command(name, own.stack.env))
    text = f"{uuid4()} [sandbox: drop]"
    jobs = [own.enqueue(provider, text) for provider in ("hiapi", "evolink") * 20]
    ended = [own.outcome(job_id) for job_id in jobs]
    assert {job["status"] for job in ended} == {"succeeded"}
    assert {len(job["attempts"]) for job in ended} == {1}
    assert [task["submissions"] for task in own.tasks(text)] == [1] * len(jobs)
    assert all(own.timeline(job_id).count("settled") == 1 for job_id in jobs)
    assert own.stack.dead() is None
    for name in ("worker", "beat"):
        own.stack.kill(f"other {name}")


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


def test_workers_do_not_exceed_a_limit_when_one_of_them_is_killed(
    own: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests.delete(f"{own.stack.sandbox_url}/control/tasks", timeout=60)
    monkeypatch.setitem(own.stack.env, "HIAPI_MAX_IN_FLIGHT", str(MAX_IN_FLIGHT))
    own.stack.kill("worker")
    own.stack.start("worker")
    own.stack.start("other worker", process_command("worker", own.stack.env))
    jobs = [own.enqueue("hiapi", f"limited {number}") for number in range(20)]
    eventually(lambda: load(own)["accepted"] > MAX_IN_FLIGHT)
    own.stack.kill("worker")
    own.stack.start("worker")
    assert [own.outcome(job_id)["status"] for job_id in jobs] == ["succeeded"] * len(jobs)
    seen = load(own)
    assert 1 <= seen["most_in_flight"] <= MAX_IN_FLIGHT
    assert (seen["accepted"], seen["refused"]) == (len(jobs), 0)
    own.stack.kill("other worker")


def test_a_worker_whose_message_loop_hangs_starts_itself_anew(own: Client) -> None:
    own.stack.kill("worker")
    command = [sys.executable, "-m", "tests.support.hanging_worker"]
    worker = own.stack.start("hanging worker", command)
    assert own.outcome(own.enqueue("hiapi", str(uuid4())))["status"] == "succeeded"

    worker.send_signal(signal.SIGUSR2)
    job_id = own.enqueue("hiapi", str(uuid4()))

    assert own.outcome(job_id)["status"] == "succeeded"
    assert "its loop has stood still" in own.stack.log("hanging worker")
    assert worker.poll() is None, "the same process goes on"
    own.stack.kill("hanging worker")
    own.stack.start("worker")


def load(client: Client) -> dict[str, Any]:
    """What the sandbox counted at HiAPI."""
    limits = requests.get(f"{client.stack.sandbox_url}/control/limits", timeout=60).json()
    found: dict[str, Any] = limits["hiapi"]
    return found
