"""Measuring a web process from outside: its threads, its memory, its callbacks' addresses."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from redis import Redis

from orchestrator.callbacks.address import CallbackAddress
from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Ledger, identifiers, keys
from orchestrator.settings.settings import Settings
from tests.system.conftest import eventually

TASK = "task-1"
#: What EvoLink sends, unsigned, when TASK is done.
DONE = b'{"id":"task-1","status":"completed","results":["https://files.example.com/0.png"]}'


def settings(env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a stack's processes."""
    with monkeypatch.context() as patch:
        for name, value in env.items():
            if name.startswith("ORCHESTRATOR_"):
                patch.setenv(name, value)
        return Settings.from_env()


@cache
def _ledger(url: str) -> Ledger:
    """The ledger of a stack. Loading its scripts takes longer than making a job."""
    return Ledger.from_url(url)


@dataclass(frozen=True)
class Rack:
    """A running web process."""

    stack: Stack
    settings: Settings

    @property
    def port(self) -> int:
        return self.stack.web_port

    def path(self, job_id: str | None = None) -> str:
        """Where a job's callback goes; by default that of a job which nobody knows."""
        address = CallbackAddress("evolink", job_id or identifiers.new_job_id(0, now_ms()), 1)
        return urlsplit(address.url(self.settings)).path

    def forged_path(self) -> str:
        """The same with a wrong token."""
        path = self.path()
        return path[:-2] + ("BB" if path.endswith("AA") else "AA")

    def running(self, task_id: str = TASK) -> str:
        """A job that waits for its callback. It begins in an hour: no worker takes it."""
        ledger = _ledger(self.stack.env["ORCHESTRATOR_REDIS_URL"])
        now = now_ms() + 3_600_000
        request = JobRequest("evolink", "nano-banana-2-lite", {"prompt": "A red cube"})
        job_id = str(eventually(lambda: _claimed(ledger, request, now)))
        with Redis.from_url(self.stack.env["ORCHESTRATOR_REDIS_URL"]) as redis:
            redis.delete(keys.task(job_id, "evolink", task_id))  # each job of a test may have it
        ledger.accepted(job_id, 1, task_id, now=now, due_at=now + 3_600_000)
        return job_id

    def settle(self, job_id: str, task_id: str = TASK) -> int:
        """Send the callback that settles a job. Return the status of its answer."""
        url = f"{self.stack.web_url}{self.path(job_id)}"
        body = DONE.replace(TASK.encode(), task_id.encode())
        return requests.post(url, data=body, timeout=120).status_code

    def processes(self) -> list[int]:
        """The server's main process and its workers."""
        return family(self.stack.running["web"].pid)

    def threads(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in self.processes())  # noqa: PTH208

    def memory(self) -> int:
        """What is resident. Bytes."""
        return sum(resident(pid) for pid in self.processes())


def _claimed(ledger: Ledger, request: JobRequest, now: int) -> str | None:
    """Create a job and claim it; None: a worker was faster."""
    job_id = ledger.create(request, now=now, deadline_at=now + 3_600_000).job_id
    return job_id if ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000) else None


def family(pid: int) -> list[int]:
    """A process and all that came of it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    return [pid, *(one for child in children for one in family(int(child)))]


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def connection(port: int, data: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which `data` was sent."""
    with socket.create_connection(("127.0.0.1", port), 10) as one:
        one.sendall(data)
        yield one


def status(answer: bytes) -> int:
    """The status of an answer's first line; 0: the connection was closed without one."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    """A request's head as it goes over the wire."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()
