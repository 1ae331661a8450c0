"""The worker's module in the process of the tests. Its sweeps end with the test."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from celery import signals

from tests.support.fakes import Harness, use_runtime
from tests.support.steps import LIMIT
from workers.sweeper import Sweeper

#: The attributes of the module that have threads for rounds of work.
SWEEPERS = ("sweeper", "archives", "bulk")


def worker(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return `workers.app` with the runtime of this harness. After sweeps, call `end_sweeps`."""
    use_runtime(monkeypatch, harness.runtime)
    module = importlib.import_module("workers.app")  # it creates the runtime
    # Other tests start their own Celery workers in this process.
    signals.setup_logging.disconnect(module._configure_logs)
    signals.worker_shutdown.disconnect(module._finish_steps)
    for name in SWEEPERS:
        known: Sweeper = getattr(module, name)
        fresh = Sweeper(known._actions["sweep"], known._actions["refill"], name=known._name)
        monkeypatch.setattr(module, name, fresh)
    return module


def end_sweeps(module: ModuleType) -> None:
    """Wait for the sweeps of a test. Later ones would use another runtime."""
    for name in SWEEPERS:
        getattr(module, name).stop(LIMIT)
