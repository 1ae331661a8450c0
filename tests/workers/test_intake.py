"""Enqueue messages of other services: the request, and the tenant beside it."""

from __future__ import annotations

import importlib

import pytest

from orchestrator.enqueue import CELERY_SCOPE, find_job
from tests.support.fakes import Harness
from tests.support.providers import EXAMPLE_REQUESTS
from tests.support.worker_app import worker


def send(harness: Harness, monkeypatch: pytest.MonkeyPatch, **request: object) -> None:
    """Run the task of one message with the id `task-1`."""
    worker(harness, monkeypatch)
    app = importlib.import_module("workers.intake").app
    app.tasks["orchestrator.enqueue"].apply(kwargs=request, task_id="task-1")


def test_a_message_names_the_tenant_of_its_job(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(harness, monkeypatch, **EXAMPLE_REQUESTS["hiapi"], tenant="shop")

    job = find_job(harness.runtime, CELERY_SCOPE, "task-1", "shop")
    assert job is not None
    assert job.tenant == "shop"
    assert find_job(harness.runtime, CELERY_SCOPE, "task-1") is None
