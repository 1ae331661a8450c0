"""One life of the Procfile's processes.

They work without callbacks, they lose their broker and their ledger, and each one is stopped. The
health checks of docker-compose.yml tell which processes are there. A test that needs a process that
was stopped starts it again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import requests
from redis import Redis

from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.cli.processes import PROCESSES
from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.ledger import Ledger, keys
from orchestrator.ledger.installation import SWEEP_STALE_SECONDS
from orchestrator.messages import ANSWER_TIMEOUT_SECONDS
from tests.deployment.kit import healthy, seconds, services, swept
from tests.support.fork_server import ForkedStack
from tests.support.providers import EXAMPLE_MODELS
from tests.system.conftest import TIMES, Client, eventually
from tests.system.test_faces import send
from tests.system.wire import Wire


@dataclass(frozen=True)
class Wired:
    """A stack without a public URL. Its ledger and its broker are behind wires to one server."""

    client: Client
    ledger: Wire
    broker: Wire
    master: Redis
    second: Redis

    @property
    def stack(self) -> Stack:
        return self.client.stack

    def fail_over(self) -> None:
        """Make the second server the master. Connections to the first one stay open."""
        self.second.replicaof(*_address(self.master))
        eventually(lambda: _info(self.second)["master_link_status"] == "up")
        self.second.replicaof("NO", "ONE")
        self.master.replicaof(*_address(self.second))
        self.ledger.target = self.broker.target = int(_address(self.second)[1])

    def ready(self) -> tuple[int, dict[str, str]]:
        answer = requests.get(f"{self.stack.web_url}/readyz", timeout=60)
        return answer.status_code, answer.json()

    def every_process_works(self) -> None:
        """A job gets its outcome by the web process and by intake, and beat asks for sweeps."""
        job = self.enqueue()
        assert self.client.outcome(job)["status"] == "succeeded"
        self.intake_works()
        before = self._last_sweep()
        eventually(lambda: self._last_sweep() > before)
        assert self.stack.dead() is None

    def enqueue(self) -> str:
        """Enqueue as a caller does after a failover: again, until the answer is not 503."""
        body = {"provider": "hiapi", "model": EXAMPLE_MODELS["hiapi"], "prompt": str(uuid4())}
        url = f"{self.stack.web_url}/v1/jobs"
        headers = {**self.client.headers, "Idempotency-Key": body["prompt"]}
        answers: list[requests.Response] = []

        def accepted() -> bool:
            answers.append(requests.post(url, json=body, headers=headers, timeout=60))
            return answers[-1].status_code in (200, 202)

        eventually(accepted)
        return str(answers[-1].json()["id"])

    def intake_works(self) -> None:
        """A message of another service becomes a job."""
        text, model = str(uuid4()), EXAMPLE_MODELS["hiapi"]
        send(self.client, str(uuid4()), provider="hiapi", model=model, prompt=text)
        eventually(lambda: self.client.tasks(text))

    def refused(self) -> dict[str, Any]:
        """The problem that answers a new job."""
        body = {"provider": "hiapi", "model": EXAMPLE_MODELS["hiapi"], "prompt": "a"}
        url, headers = f"{self.stack.web_url}/v1/jobs", self.client.headers
        answer = requests.post(url, json=body, headers=headers, timeout=60)
        assert answer.status_code == 503
        problem: dict[str, Any] = answer.json()
        return problem

    def restore(self) -> None:
        """Start the processes that a test has stopped."""
        stopped = [name for name in PROCESSES if name not in self.stack.running]
        for name in stopped:
            self.stack.start(name)
        if stopped:
            self.stack.wait_for("web", f"{self.stack.web_url}/readyz")

    def _last_sweep(self) -> int:
        return Ledger.from_url(self.stack.redis_url or "").installation.last_sweep() or 0


def _info(redis: Redis) -> dict[str, Any]:
    info: Any = redis.info("replication")
    return dict(info)


def _address(redis: Redis) -> tuple[str, str]:
    return "127.0.0.1", str(redis.connection_pool.connection_kwargs["port"])


@pytest.fixture(scope="module")
def _wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    home: Path = tmp_path_factory.mktemp("wired")
    with ExitStack() as closing:
        urls = [closing.enter_context(embedded_redis(home / name)) for name in ("one", "two")]
        master, second = (closing.enter_context(Redis.from_url(url)) for url in urls)
        port = urlsplit(urls[0]).port or 0
        ledger, broker = (closing.enter_context(Wire(port)) for _ in range(2))
        stack = ForkedStack(
            PROCESSES,
            redis_url=f"redis://127.0.0.1:{ledger.port}/0",
            task_seconds=0.4,
            settings={
                **TIMES,
                "ORCHESTRATOR_BROKER_URL": f"redis://127.0.0.1:{broker.port}/0",
                "ORCHESTRATOR_PUBLIC_URL": "",
                "HIAPI_POLL_SECONDS": "0.3",
                "EVOLINK_POLL_SECONDS": "0.3",
            },
            folder=home,
        )
        client = Client(closing.enter_context(stack))
        yield Wired(client, ledger, broker, master, second)


@pytest.fixture
def wired(_wired: Wired) -> Wired:
    """Every process of the Procfile, running."""
    _wired.restore()
    return _wired


def test_without_a_public_url_every_job_is_polled(wired: Wired) -> None:
    client, text = wired.client, str(uuid4())
    jobs = [client.enqueue(provider, text) for provider in ("hiapi", "evolink")]
    assert {client.outcome(job)["settled_by"] for job in jobs} == {"poll"}
    assert {task["callback_url"] for task in client.tasks(text)} == {None}


def test_worker_beat_and_intake_notice_a_silent_broker_and_connect_anew(wired: Wired) -> None:
    ledger = Ledger.from_url(wired.stack.redis_url or "")
    wired.broker.fall_silent()
    # A sweep that was on its way may still end.
    since = now_ms() + 1000
    eventually(
        lambda: (ledger.installation.last_sweep() or 0) > since, within=6 * ANSWER_TIMEOUT_SECONDS
    )
    wired.every_process_works()


def test_every_process_leaves_an_old_master_and_waits_out_a_full_one(wired: Wired) -> None:
    wired.fail_over()
    wired.every_process_works()

    wired.second.config_set("maxmemory", 1)
    try:
        # A web process that has not called since the failover first meets the old master.
        eventually(lambda: wired.ready()[1]["ledger"] == "refuses writes (OOM)")
        assert wired.refused()["type"] == "urn:orchestrator:problem:ledger-unavailable"
    finally:
        wired.second.config_set("maxmemory", 0)
    wired.every_process_works()


# The end -------------------------------------------------------------------------------------


@dataclass
class Life:
    """What was seen at the end."""

    #: Whether health checks passed: with everything there, without worker and beat, without web.
    complete: dict[str, bool] = field(default_factory=dict)
    unswept: dict[str, bool] = field(default_factory=dict)
    webless: bool = True
    #: A job's timeline when its worker was told to stop, and when that had stopped.
    submitting: list[str] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)
    #: What web answered a request that was waiting when it was told to stop.
    answers: list[dict[str, Any]] = field(default_factory=list)
    #: The kinds of the processes in the ledger: when all run, and after the last was stopped.
    heard: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    #: Exit statuses after SIGTERM.
    status: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def life(_wired: Wired) -> Life:
    """The end of every process."""
    _wired.restore()
    seen, stack, client = Life(), _wired.stack, _wired.client
    eventually(lambda: stack.log("web").count("web_started") == 2)
    seen.complete = {name: healthy(name, stack.env) for name in ("web", "worker")}
    eventually(lambda: heard(stack) == set(PROCESSES))
    seen.heard = heard(stack)
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
    seen.left = heard(stack)
    return seen


def heard(stack: Stack) -> set[str]:
    """The kinds of processes that the ledger knows."""
    known = Ledger.from_url(stack.redis_url or "").processes.known()
    return {process.kind for process in known}


def in_flight(client: Client) -> str:
    """A job whose submission is under way."""
    text = f"{uuid4()} [sandbox: hang=3]"
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


def test_every_process_ends_on_sigterm_with_exit_status_0(life: Life) -> None:
    assert life.status == dict.fromkeys(PROCESSES, 0)


def test_every_process_is_in_the_ledger_until_it_is_told_to_stop(life: Life) -> None:
    assert life.heard == set(PROCESSES)
    assert life.left == set()


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
