"""The worker's module in the process of the tests."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from celery import signals

from tests.support.fakes import Harness, use_runtime


def worker(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return `workers.app` with the runtime of this harness."""
    use_runtime(monkeypatch, harness.runtime)
    module = importlib.import_module("workers.app")  # it creates the runtime
    # Other tests start their own Celery workers in this process.
    signals.setup_logging.disconnect(module._configure_logs)
    signals.worker_shutdown.disconnect(module._finish_steps)
    return module
