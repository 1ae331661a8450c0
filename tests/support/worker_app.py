"""The worker's module, in this process."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from celery import signals

from orchestrator import runtime
from tests.support.fakes import Harness


def worker(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`workers.app` on this harness."""
    monkeypatch.setattr(runtime, "default", lambda: harness.runtime)
    module = importlib.import_module("workers.app")  # which asks for the runtime
    # Other tests have Celery workers of their own in this process.
    signals.setup_logging.disconnect(module._configure_logs)
    signals.worker_shutdown.disconnect(module._finish_steps)
    return module
