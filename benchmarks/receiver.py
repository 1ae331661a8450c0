"""Compares the throughput of the receiver with a minimal Flask route in granian, on the same Redis.

Each callback settles its own job over one of 64 connections. The load generator and Redis run on
the same machine. Goal: at least 0.95 of the rate of the minimal route.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from abc import ABC, abstractmethod
from statistics import median

from benchmarks import bare, load
from benchmarks.product import WEB_PROCESSES
from benchmarks.report import Report, progress, ratios
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Step
from orchestrator.jobs.request import JobRequest
from orchestrator.jsonio import dump
from orchestrator.ledger import Ledger
from orchestrator.settings.settings import Settings

GOAL = 0.95
ROUNDS = 3
CALLBACKS = 3000
HEADERS = {"Content-Type": "application/json"}


def run(rounds: int = ROUNDS, jobs: int = CALLBACKS) -> Report:
    """Measure both alternately."""
    with Stack(("web",), settings={"WEB_CONCURRENCY": WEB_PROCESSES}) as stack:
        port = bare.start(stack, "minimal")
        ours, theirs = _Ours(stack), _Theirs(stack)
        results: dict[str, list[load.Load]] = {"ours": [], "minimal": []}
        _play(stack.web_port, ours.requests(500))
        _play(port, theirs.requests(500))
        for number in range(1, rounds + 1):
            results["minimal"].append(_play(port, theirs.requests(jobs)))
            results["ours"].append(_play(stack.web_port, ours.requests(jobs)))
            last = {name: f"{runs[-1].rate:.0f} /s" for name, runs in results.items()}
            progress(f"round {number}: {last}")
    return _report(results, f"{rounds} rounds of {jobs} callbacks, {load.CONNECTIONS} connections")


class _Jobs(ABC):
    """Running jobs in the ledger that wait for their callbacks."""

    def __init__(self, stack: Stack) -> None:
        self._ledger = Ledger.from_url(stack.env["ORCHESTRATOR_REDIS_URL"])

    def requests(self, count: int) -> list[bytes]:
        """Return a callback for each of `count` new jobs."""
        return [self._request() for _ in range(count)]

    def _request(self) -> bytes:
        now = now_ms()
        wanted = JobRequest("evolink", "nano-banana-2-lite", {"prompt": "A lighthouse at dusk"})
        made = self._ledger.create(wanted, now=now, deadline_at=now + 3_600_000)
        self._ledger.claim(made.job_id, Step.SUBMIT, now=now, lease_ms=60_000)
        task_id = f"task-{made.job_id}"
        self._ledger.accepted(made.job_id, 1, task_id, now=now, due_at=now + 3_600_000)
        return load.request(self.path(made.job_id), _body(task_id), HEADERS)

    @abstractmethod
    def path(self, job_id: str) -> str:
        """Return the path of a job's callback."""


class _Ours(_Jobs):
    """Return callbacks in the form of our receiver."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self._settings = _settings(stack)

    def path(self, job_id: str) -> str:
        url = CallbackAddress("evolink", job_id, 1).url(self._settings)
        return url[url.index("/callbacks") :]


class _Theirs(_Jobs):
    """Return callbacks in the form of the minimal route."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self._secret = stack.env["ORCHESTRATOR_SECRET_KEY"].encode()

    def path(self, job_id: str) -> str:
        message = f"evolink\n{job_id}.1".encode()
        token = hmac.digest(self._secret, message, hashlib.sha256).hex()
        return f"/callbacks/evolink/{job_id}.1/{token}"


def _body(task_id: str) -> bytes:
    """Return a callback in the form of EvoLink."""
    task = {
        "created": 1757165031,
        "id": task_id,
        "model": "nano-banana-2-lite",
        "object": "image.generation.task",
        "progress": 100,
        "results": ["https://files.example.com/2026/11/20/0123456789abcdef0123456789abcdef.png"],
        "status": "completed",
        "task_info": {"can_cancel": False},
        "type": "image",
        "usage": {"billing_rule": "per_call", "credits_reserved": 1.6, "user_group": "default"},
    }
    return dump(task)


def _settings(stack: Stack) -> Settings:
    os.environ.update({k: v for k, v in stack.env.items() if k.startswith("ORCHESTRATOR_")})
    return Settings.from_env()


def _play(port: int, requests: list[bytes]) -> load.Load:
    result = load.run(port, requests)
    assert set(result.statuses) == {200}, result.statuses
    return result


def _report(results: dict[str, list[load.Load]], title: str) -> Report:
    report = Report("receiver", title)
    rates = {name: [one.rate for one in runs] for name, runs in results.items()}
    report.add("callbacks", "/s", rates)
    report.add(
        "99th percentile",
        "ms",
        {n: [r.percentile(0.99) for r in runs] for n, runs in results.items()},
    )
    ratio = ratios(rates["ours"], rates["minimal"])
    report.add("ratio", "x", {"ours to minimal": ratio})
    report.goal("ours to the minimal route:", median(ratio), GOAL)
    return report
