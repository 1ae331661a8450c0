"""`orchestrator alive`: whether a process of this host gives signs of life."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from orchestrator.cli import main
from orchestrator.cli.alive import HANGS_AFTER_MS
from orchestrator.cli.ports import free_port
from orchestrator.clock import now_ms
from orchestrator.ledger import Ledger
from orchestrator.ledger.processes import Process
from orchestrator.runtime import default_runtime
from tests.support.providers import ENABLED


@pytest.fixture
def ledger(redis_url: str, real_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    for name, value in {**ENABLED, "ORCHESTRATOR_REDIS_URL": redis_url}.items():
        monkeypatch.setenv(name, value)
    default_runtime.cache_clear()
    return Ledger.from_url(redis_url)


def check(process: str = "worker") -> Result:
    default_runtime.cache_clear()
    return CliRunner().invoke(main, ["alive", process])


def worker(seconds_ago: float) -> Process:
    seen = now_ms() - int(seconds_ago * 1000)
    return Process("worker", socket.gethostname(), 7, "1", seen, seen)


def test_a_process_without_a_sign_of_life_is_not_alive(ledger: Ledger) -> None:
    assert check().exit_code == 1
    ledger.processes.record(worker(0))
    assert check().exit_code == 0
    assert check("beat").exit_code == 1


def test_a_process_of_another_host_does_not_count(ledger: Ledger) -> None:
    ledger.processes.record(replace(worker(0), host="elsewhere"))
    assert check().exit_code == 1


def test_a_process_that_is_silent_for_long_is_not_alive(ledger: Ledger) -> None:
    ledger.processes.record(worker(HANGS_AFTER_MS / 1000 + 5))
    assert check().exit_code == 1
    ledger.processes.record(replace(worker(1), pid=8))
    assert check().exit_code == 0


def test_while_redis_is_away_no_process_is_restarted(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    assert check().exit_code == 0
