"""Compares the throughput of the receiver with a minimal Flask route on the same server and Redis.

Each callback settles its own job over one of 64 connections. The load generator and Redis run on
the same machine. Goal: at least 0.8 of the rate of the minimal route.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from abc import ABC, abstractmethod
from statistics import median

from benchmarks import load
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.cli.stack import Stack, free_port, procfile
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Step
from orchestrator.jobs.request import JobRequest
from orchestrator.jsonio import dump
from orchestrator.ledger import Ledger
from orchestrator.settings.settings import Settings

GOAL = 0.8
ROUNDS = 5
CALLBACKS = 5000
HEADERS = {"Content-Type": "application/json"}


def run() -> bool:
    """Measure both alternately, and print the median of the ratios."""
    with Stack(processes=("web",)) as stack:
        port = free_port()
        stack.start("minimal", _minimal(port))
        stack.wait_for("minimal", f"http://127.0.0.1:{port}/static/none", status=404)
        ours, theirs = _Ours(stack), _Theirs(stack)
        rates: dict[str, list[load.Load]] = {"ours": [], "minimal": []}
        _play(stack.web_port, ours.requests(500))
        _play(port, theirs.requests(500))
        for _ in range(ROUNDS):
            rates["minimal"].append(_play(port, theirs.requests(CALLBACKS)))
            rates["ours"].append(_play(stack.web_port, ours.requests(CALLBACKS)))
    return _report(rates)


def _minimal(port: int) -> list[str]:
    """Return the web command of the Procfile with the other application."""
    command = procfile()["web"].replace("webhooks.server:app", "benchmarks.minimal:app")
    command = command.replace("--interface rsgi", "--interface wsgi --blocking-threads 8")
    return ["/bin/sh", "-c", f"PORT={port}; exec {command}"]


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


def _report(rates: dict[str, list[load.Load]]) -> bool:
    print(f"Receiver: {ROUNDS} rounds of {CALLBACKS} callbacks, {load.CONNECTIONS} connections")
    rate = {name: median(one.rate for one in runs) for name, runs in rates.items()}
    for name, runs in rates.items():
        p99 = median(one.percentile(0.99) for one in runs)
        print(f"  {name:<8} {rate[name]:6.0f} /s   p99 {p99:5.1f} ms")
    pairs = zip(rates["ours"], rates["minimal"], strict=True)
    ratio = median(ours.rate / minimal.rate for ours, minimal in pairs)
    print(f"  ratio    {ratio:6.2f}      goal: at least {GOAL}\n")
    return ratio >= GOAL
