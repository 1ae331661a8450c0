"""A receiver under test: a job that waits for its callback, and the provider that sends it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from orchestrator.callbacks.address import CallbackAddress
from orchestrator.jobs.model import Job, Step
from orchestrator.jsonio import dump
from orchestrator.ledger import identifiers
from tests.support.fakes import NOON, Harness
from tests.support.web import WebApp

TASK = "task-1"
SECRET = "whsec_0123456789abcdef"
LINK = "https://cdn.example.com/0.png"

#: What each provider's callback holds for a success, a failure and a task on its way.
SUCCESS: dict[str, dict[str, Any]] = {
    "hiapi": {"taskId": TASK, "status": "success", "output": [{"url": LINK, "type": "image"}]},
    "evolink": {"id": TASK, "status": "completed", "results": [LINK]},
}
FAILURE: dict[str, dict[str, Any]] = {
    "hiapi": {"taskId": TASK, "status": "fail", "error": {"code": "TASK_FAILED", "message": "no"}},
    "evolink": {"id": TASK, "status": "failed", "error": {"code": "x", "message": "no"}},
}
ON_ITS_WAY: dict[str, dict[str, Any]] = {
    "hiapi": {"taskId": TASK, "status": "handling"},
    "evolink": {"id": TASK, "status": "processing"},
}


@dataclass
class Receiver:
    """The web process."""

    harness: Harness
    client: FlaskClient
    #: The provider task of each running job.
    tasks: dict[str, str] = field(default_factory=dict)

    @classmethod
    def on(cls, harness: Harness) -> Receiver:
        return cls(harness, WebApp(harness.runtime).test_client())

    def submitted(self, provider: str = "hiapi") -> str:
        """A job whose request is on its way to the provider."""
        job_id = self.harness.enqueue(provider)
        assert self.harness.ledger.claim(
            job_id, Step.SUBMIT, now=self.harness.clock(), lease_ms=60_000
        )
        return job_id

    def running(self, provider: str = "hiapi", task_id: str | None = None) -> str:
        """Create a job with a known provider task: TASK for the first job."""
        job_id, now = self.submitted(provider), self.harness.clock()
        task_id = task_id or f"task-{len(self.tasks) + 1}"
        self.tasks[job_id] = task_id
        self.harness.ledger.accepted(job_id, 1, task_id, now=now, due_at=now + 30_000)
        return job_id

    def path(self, job_id: str, provider: str = "hiapi") -> str:
        url = CallbackAddress(provider, job_id, 1).url(self.harness.runtime.settings)
        return urlsplit(url).path

    def send(self, path: str, body: Any, **options: Any) -> TestResponse:
        """Post a callback; a body that is not bytes is sent as JSON."""
        raw = body if isinstance(body, bytes) else dump(body)
        return self.client.post(path, data=raw, content_type="application/json", **options)

    def deliver(self, job_id: str, body: Any, provider: str = "hiapi") -> TestResponse:
        """Post a callback to a job's own address. TASK in it becomes the job's task."""
        task_id = self.tasks.get(job_id)
        if isinstance(body, dict) and task_id:
            body = {name: task_id if value == TASK else value for name, value in body.items()}
        return self.send(self.path(job_id, provider), body)

    def job(self, job_id: str) -> Job:
        return self.harness.job(job_id)


@dataclass
class Commands:
    """Counts the commands that a Redis client sends."""

    names: list[str]

    @classmethod
    def of(cls, client: Redis) -> Commands:
        counted = cls([])
        execute: Any = client.execute_command

        def count(*args: Any, **options: Any) -> Any:
            counted.names.append(str(args[0]))
            return execute(*args, **options)

        client.execute_command = count  # type: ignore[method-assign]
        return counted


def signed(body: bytes, timestamp: int, secret: str = SECRET) -> dict[str, str]:
    """HiAPI's headers."""
    message = str(timestamp).encode() + b"." + body
    signature = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return {"X-HiAPI-Timestamp": str(timestamp), "X-HiAPI-Signature": signature}


def another_job_id() -> str:
    return identifiers.new_job_id(0, NOON)
