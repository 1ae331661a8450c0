"""The worker's module, in this process."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from celery import signals

from tests.support.fakes import Harness, use_runtime


def worker(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`workers.app` on this harness."""
    use_runtime(monkeypatch, harness.runtime)
    module = importlib.import_module("workers.app")  # which asks for the runtime
    # Other tests have Celery workers of their own in this process.
    signals.setup_logging.disconnect(module._configure_logs)
    signals.worker_shutdown.disconnect(module._finish_steps)
    return module
