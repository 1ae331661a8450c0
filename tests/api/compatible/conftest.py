"""The calls of OpenAI's and Gemini's clients, and jobs that end as a test says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from orchestrator.api.compatible.held_call import JOB_HEADER
from orchestrator.jobs.model import Copy, ErrorCode, Image, Job, JobError, Outcome
from tests.api.conftest import Api, settle
from tests.support import archive_kit
from tests.support.archive_kit import picture
from tests.support.fakes import Harness
from tests.support.web import WebApp

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
MODEL = "hiapi/Nano-Banana-2"
REQUEST = {"model": MODEL, "prompt": "A red cube"}


@dataclass
class Compatible:
    """The API, for clients that wait for images."""

    api: Api

    @property
    def harness(self) -> Harness:
        return self.api.harness

    def generate(self, **fields: Any) -> TestResponse:
        """Ask for images. `headers` are those of the request."""
        headers = fields.pop("headers", {})
        body = {name: value for name, value in {**REQUEST, **fields}.items() if value is not ...}
        return self.api.post(GENERATIONS, json=body, headers=headers, buffered=True)

    def content(self, body: dict[str, Any], model: str = MODEL, **more: Any) -> TestResponse:
        """Ask Gemini's call for images."""
        path = f"/v1beta/models/{model}:{more.pop('method', 'generateContent')}"
        return self.api.post(path, json=body, buffered=True, **more)

    def job(self, answer: TestResponse) -> Job:
        """The job of an answer."""
        return self.harness.job(answer.headers[JOB_HEADER])

    def begin(self, **fields: Any) -> str:
        """Ask for images that are not there yet. Return the id of the job."""
        answer = self.generate(**fields)
        assert answer.status_code == 503, answer.text
        return str(answer.headers[JOB_HEADER])

    def all_jobs(self, count: int, **fields: Any) -> list[Job]:
        """Ask for images of a model that makes one per task. Return the jobs, which succeeded."""
        jobs = []
        for _ in range(count):
            job_id = self.begin(**fields)
            self.succeed(job_id)
            jobs.append(self.harness.job(job_id))
        return jobs

    def succeed(self, job_id: str, *contents: bytes) -> None:
        """Let a job succeed with archived images."""
        images = [self.archived(job_id, n, each) for n, each in enumerate(contents or [picture()])]
        settle(self.harness, job_id, Outcome.succeeded(tuple(images)))

    def fail(self, job_id: str, code: ErrorCode = ErrorCode.GENERATION_FAILED) -> None:
        settle(self.harness, job_id, Outcome.failed(JobError(code, "the provider's words")))

    def archived(self, job_id: str, number: int, content: bytes) -> Image:
        """Return an image with a copy in the archive."""
        path = f"test/{job_id}/{number}.png"
        self.harness.runtime.storage.put(path, content, "image/png")
        digest = hashlib.sha256(content).hexdigest()
        now = self.harness.clock.now
        copy = Copy(path, digest, len(content), 96, 64, "image/png", now, None)
        return Image("https://cdn.example.com/0.png", now + 1000, copy)


@pytest.fixture
def open_compatible(start: Callable[..., Harness], tmp_path: Path) -> Callable[..., Compatible]:
    """Opens the API; keyword arguments are environment variables."""

    def begin(**variables: str | None) -> Compatible:
        harness = archive_kit.harness(start, tmp_path, **variables)  # type: ignore[arg-type]
        return Compatible(Api(harness, WebApp(harness.runtime)))

    return begin


@pytest.fixture
def compatible(open_compatible: Callable[..., Compatible]) -> Compatible:
    return open_compatible()
