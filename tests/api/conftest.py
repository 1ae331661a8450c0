from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from orchestrator.jobs.model import Image, Outcome, SettledBy, Step
from orchestrator.ledger import Lease
from tests.support.fakes import Harness
from tests.support.web import WebApp

KEY = "api-key-of-the-tests"
#: The key of an administrator.
ADMIN_KEY = "admin-key-of-the-tests"


@dataclass
class Api:
    """The API as a caller with a key sees it."""

    harness: Harness
    app: WebApp | Flask
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {KEY}"})

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.app.test_client().get(path, headers=self.headers, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        headers = {**self.headers, **options.pop("headers", {})}
        return self.app.test_client().post(path, headers=headers, **options)

    def create(self, body: Any, key: str | None = None) -> TestResponse:
        """Enqueue; bytes are sent as they are."""
        headers = {} if key is None else {"Idempotency-Key": key}
        how: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        return self.post("/v1/jobs", content_type="application/json", headers=headers, **how)

    def as_admin(self) -> Api:
        """Return the API as an administrator sees it."""
        return self.with_key(ADMIN_KEY)

    def with_key(self, key: str) -> Api:
        """Return the API as the owner of another key sees it."""
        return replace(self, headers={"Authorization": f"Bearer {key}"})

    def created(self, **changes: Any) -> str:
        """The id of a job that was enqueued."""
        answer = self.create({**UNIFIED, **changes})
        assert answer.status_code == 202, answer.text
        return str(answer.json and answer.json["id"])


UNIFIED = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A red cube"}
NATIVE = {
    "provider": "evolink",
    "model": "nano-banana-2-lite",
    "request": {"model": "nano-banana-2-lite", "prompt": "A red cube", "size": "16:9"},
}
#: Opens the API; keyword arguments are environment variables.
Open = Callable[..., Api]


@pytest.fixture
def open_api(start: Callable[..., Harness]) -> Open:
    def begin(**variables: str | None) -> Api:
        harness = start(**variables)
        return Api(harness, WebApp(harness.runtime))

    return begin


@pytest.fixture
def api(open_api: Open) -> Api:
    return open_api()


def settle(harness: Harness, job_id: str, outcome: Outcome | None = None) -> None:
    now = harness.clock()
    lease = harness.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
    assert isinstance(lease, Lease)
    done = outcome or Outcome.succeeded((Image("https://cdn.example.com/0.png", now + 1000),))
    harness.ledger.settle(lease, done, SettledBy.POLL, now=now)
