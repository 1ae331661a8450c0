"""One life of the Procfile's processes, watched through the health checks of docker-compose.yml."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from redis import Redis

from orchestrator.cli.stack import ROOT, START_TIMEOUT_SECONDS, Stack, procfile
from orchestrator.ledger import keys
from orchestrator.steps.reconcile import SWEEP_STALE_SECONDS
from tests.deployment.kit import healthy, seconds, services, swept
from tests.support.providers import EXAMPLE_MODELS
from tests.system.conftest import Client, eventually

#: The line that granian writes when one of its workers serves requests.
STARTED = "Started worker-"


@dataclass
class Life:
    """What was seen."""

    #: The processes that were alive once each had done some of its work.
    alive: set[str] = field(default_factory=set)
    #: Whether health checks passed: with everything there, without worker and beat, without web.
    complete: dict[str, bool] = field(default_factory=dict)
    unswept: dict[str, bool] = field(default_factory=dict)
    webless: bool = True
    #: A job's timeline when its worker was told to stop, and when that had stopped.
    submitting: list[str] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)
    #: What web answered a request that was waiting when it was told to stop.
    answers: list[dict[str, Any]] = field(default_factory=list)
    #: Exit statuses after SIGTERM.
    status: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def life() -> Life:
    seen = Life()
    with Stack(processes=tuple(procfile()), task_seconds=0.2) as stack:
        client = Client(stack)
        work(client)
        seen.alive = {name for name, process in stack.running.items() if process.poll() is None}
        seen.complete = {name: healthy(name, stack.env) for name in ("web", "worker")}
        job = in_flight(client)
        seen.submitting = client.timeline(job)
        seen.status["worker"] = stop(stack, "worker")
        seen.submitted = client.timeline(job)
        seen.status["beat"] = stop(stack, "beat")
        swept(stack.redis_url or "", seconds_ago=SWEEP_STALE_SECONDS + 1)
        seen.unswept = {name: healthy(name, stack.env) for name in ("web", "worker")}
        caller = threading.Thread(target=lambda: seen.answers.append(client.job(job, wait=1)))
        caller.start()
        eventually(lambda: waited_for(stack, job))
        seen.status["web"] = stop(stack, "web")
        caller.join()
        seen.webless = healthy("web", stack.env)
        for name in ("intake", "recorder"):
            seen.status[name] = stop(stack, name)
    return seen


def work(client: Client) -> None:
    """Have each process do some of its work."""
    text = str(uuid4())
    request = {"provider": "hiapi", "model": EXAMPLE_MODELS["hiapi"], "prompt": text}
    with Celery(broker=client.stack.redis_url, set_as_current=False) as service:
        service.send_task("orchestrator.enqueue", kwargs=request, queue="orchestrator.enqueue")
    eventually(lambda: client.tasks(text), within=START_TIMEOUT_SECONDS)
    eventually(lambda: client.stack.log("web").count(STARTED) == 2, within=START_TIMEOUT_SECONDS)


def in_flight(client: Client) -> str:
    """A job whose submission is under way, and which no callback settles."""
    text = f"{uuid4()} [sandbox: hang=3, drop]"
    job = client.enqueue("evolink", text)
    eventually(lambda: client.tasks(text))
    return job


def waited_for(stack: Stack, job: str) -> bool:
    channel = keys.settled(job)
    with Redis.from_url(stack.redis_url or "", decode_responses=True) as redis:
        return bool(dict(redis.pubsub_numsub(channel))[channel])


def stop(stack: Stack, name: str) -> int:
    """The exit status after SIGTERM, within the time that docker-compose.yml gives it."""
    process = stack.running.pop(name)
    process.terminate()
    return process.wait(seconds(services()[name]["stop_grace_period"]))


def test_the_procfile_is_valid_to_honcho() -> None:
    tool = str(Path(sys.executable).parent / "honcho")
    told = subprocess.run([tool, "check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert f"({', '.join(procfile())})" in told.stderr


def test_a_worker_of_web_that_is_stopped_while_it_imports_ends() -> None:
    code = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: None)  # as a worker inherits it from granian
sys.modules["orchestrator"] = None  # the import fails here
try:
    import webhooks.wsgi
except ImportError:
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout == "True\n", ended.stderr


def test_every_process_starts_works_and_stays_up(life: Life) -> None:
    assert life.alive == {"sandbox", *procfile()}


def test_every_process_ends_on_sigterm_with_exit_status_0(life: Life) -> None:
    assert life.status == dict.fromkeys(procfile(), 0)


def test_a_worker_that_is_told_to_stop_finishes_its_step_in_flight(life: Life) -> None:
    assert life.submitting == ["created", "submitting"]
    assert life.submitted == ["created", "submitting", "accepted"]


def test_web_answers_who_waits_when_it_is_told_to_stop(life: Life) -> None:
    assert [answer["status"] for answer in life.answers] == ["running"]


def test_every_health_check_passes_while_everything_works(life: Life) -> None:
    assert life.complete == {"web": True, "worker": True}


def test_without_worker_and_beat_their_check_fails_and_webs_does_not(life: Life) -> None:
    assert life.unswept == {"web": True, "worker": False}


def test_without_web_its_check_fails(life: Life) -> None:
    assert not life.webless
