"""Redis away under real processes: the receiver answers quickly, and nothing that came is lost."""

from __future__ import annotations

import socket
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import requests

from tests.system.conftest import UnpolledStack, eventually, restart_web
from tests.system.rack import DONE, Rack, settings

JOBS = 8


def finished(scene: UnpolledStack) -> dict[str, str]:
    """Jobs whose provider tasks are done, and whose callbacks nobody has sent: task id by job."""
    text = f"{uuid4()} [sandbox: drop]"
    jobs = [scene.client.enqueue(("hiapi", "evolink")[n % 2], text) for n in range(JOBS)]
    eventually(lambda: len(done(scene, text)) == JOBS)
    eventually(lambda: all(scene.client.job(job)["status"] == "running" for job in jobs))
    return {job: scene.client.job(job)["attempts"][0]["task_id"] for job in jobs}


def done(scene: UnpolledStack, text: str) -> list[dict[str, Any]]:
    return [task for task in scene.client.tasks(text) if task["finished_at"]]


def call_back(scene: UnpolledStack, task_id: str) -> int:
    """Have the provider send a task's callback, once; how it was answered."""
    url = f"{scene.stack.sandbox_url}/control/tasks/{task_id}/callback"
    sent: dict[str, Any] = requests.post(url, timeout=60).json()
    return int(sent["status"])


@dataclass
class Probe:
    """Asks a path again and again, and notes how it is answered and how long that took."""

    url: str
    answers: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self.answers or not self._stop.wait(0.1):
            self.answers[requests.get(self.url, timeout=60).status_code] += 1


def test_with_a_spool_callbacks_are_taken_while_redis_is_dead_and_settle_when_it_is_back(
    unpolled: UnpolledStack,
) -> None:
    scene, jobs = unpolled, finished(unpolled)
    scene.redis.kill()
    with Probe(f"{scene.stack.web_url}/healthz") as health, ThreadPoolExecutor(JOBS) as pool:
        statuses = list(pool.map(lambda task: call_back(scene, task), jobs.values()))
    assert statuses == [200] * JOBS
    assert set(health.answers) == {200}
    assert len(scene.spool.waiting()) == JOBS
    assert requests.get(f"{scene.stack.web_url}/readyz", timeout=60).status_code == 503

    scene.redis.start()

    for job in jobs:
        outcome = scene.client.outcome(job)
        assert (outcome["status"], outcome["settled_by"]) == ("succeeded", "callback")
        assert "duplicate" not in scene.client.timeline(job)
    eventually(lambda: not scene.spool.waiting())
    comes_back(scene)


def test_what_a_killed_web_process_had_spooled_settles_when_it_is_started_again(
    unpolled: UnpolledStack,
) -> None:
    scene, jobs = unpolled, finished(unpolled)
    scene.redis.kill()
    assert {call_back(scene, task) for task in jobs.values()} == {200}
    scene.stack.kill("web")
    assert len(scene.spool.waiting()) == JOBS
    scene.redis.start()

    scene.stack.start("web")
    scene.stack.wait_for("web", f"{scene.stack.web_url}/healthz")

    outcomes = [scene.client.outcome(job) for job in jobs]
    assert {outcome["settled_by"] for outcome in outcomes} == {"callback"}
    eventually(lambda: not scene.spool.waiting())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_without_a_spool_callbacks_are_answered_503_and_settle_when_they_come_again(
    unpolled: UnpolledStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = unpolled
    restart_web(scene.stack, ORCHESTRATOR_SPOOL_DIR="")
    jobs = finished(scene)
    scene.redis.kill()
    statuses = [call_back(scene, task) for task in jobs.values()]
    assert statuses == [503] * JOBS
    rack = Rack(scene.stack, settings(scene.stack.env, monkeypatch))
    answers_many(rack)  # connections are refused
    with socket.create_server(address(scene), backlog=512):
        answers_many(rack)  # connections are accepted, and nothing is answered

    scene.redis.start()

    eventually(lambda: {call_back(scene, task) for task in jobs.values()} == {200})
    outcomes = [scene.client.outcome(job) for job in jobs]
    assert {outcome["settled_by"] for outcome in outcomes} == {"callback"}
    comes_back(scene)


def comes_back(scene: UnpolledStack) -> None:
    """Worker and beat are there again, without having been restarted."""
    ready = f"{scene.stack.web_url}/readyz"
    eventually(lambda: requests.get(ready, timeout=60).status_code == 200)
    text = str(uuid4())
    assert scene.client.outcome(scene.client.enqueue("hiapi", text))["status"] == "succeeded"
    assert scene.stack.dead() is None


# Many at once ----------------------------------------------------------------------------------

CALLBACKS = 64
#: The 8 of the Procfile for each of two processes, and what server and Python have of their own.
THREADS = 2 * (8 + 8) + 4


def address(scene: UnpolledStack) -> tuple[str, int]:
    """The address of the dead Redis."""
    return "127.0.0.1", urlsplit(scene.redis.url).port or 0


def answers_many(rack: Rack) -> None:
    """Answer many callbacks at once with a bounded number of threads."""
    most, url = Most(rack), f"{rack.stack.web_url}{rack.path()}"

    def deliver(_: int) -> int:
        return requests.post(url, data=DONE, timeout=60).status_code

    probe = Probe(f"{rack.stack.web_url}/healthz")
    with probe as health, most, ThreadPoolExecutor(CALLBACKS) as pool:
        statuses = Counter(pool.map(deliver, range(CALLBACKS)))

    assert statuses == {503: CALLBACKS}
    assert set(health.answers) == {200}
    assert 0 < most.seen <= THREADS
    assert requests.get(f"{rack.stack.web_url}/readyz", timeout=60).json()["ledger"] == "away"


class Most:
    """The most threads that were seen."""

    def __init__(self, rack: Rack) -> None:
        self.seen = 0
        self._rack = rack
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self.seen = max(self.seen, self._rack.threads())
