"""The health checks of docker-compose.yml at their edges; test_life runs them on real processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from orchestrator.cli.ports import free_port
from orchestrator.ledger import LedgerUnavailable
from orchestrator.ledger.installation import SWEEP_STALE_SECONDS
from orchestrator.runtime import default_runtime
from tests.deployment.kit import healthy, services, swept, unescaped


@pytest.fixture
def worker_healthy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], bool]:
    """Runs the Python code of the worker's check in this process, with a ledger's URL."""
    kind, program, option, code = unescaped(services()["worker"]["healthcheck"]["test"])
    assert (kind, program, option) == ("CMD", "python", "-c")

    def check(redis_url: str) -> bool:
        monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", redis_url)
        default_runtime.cache_clear()
        try:
            exec(code, {})
        except SystemExit as ended:
            return not ended.code
        except LedgerUnavailable:
            return False
        raise AssertionError("the check has no exit status")

    return check


def test_worker_and_beat_prove_themselves_by_the_same_check() -> None:
    assert services()["worker"]["healthcheck"] == services()["beat"]["healthcheck"]


def test_a_sweep_is_too_old_when_readyz_says_so(
    redis_url: str, real_redis: Redis, worker_healthy: Callable[[str], bool]
) -> None:
    swept(redis_url, seconds_ago=0)
    assert worker_healthy(redis_url)
    swept(redis_url, seconds_ago=SWEEP_STALE_SECONDS + 1)
    assert not worker_healthy(redis_url)


def test_without_any_sweep_a_worker_is_unhealthy(
    redis_url: str, real_redis: Redis, worker_healthy: Callable[[str], bool]
) -> None:
    assert not worker_healthy(redis_url)


def test_a_worker_is_unhealthy_while_the_ledger_is_away(
    worker_healthy: Callable[[str], bool],
) -> None:
    assert not worker_healthy(f"redis://127.0.0.1:{free_port()}/0")


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        ("PONG", True),
        ("LOADING Redis is loading the dataset in memory", False),
        ("MISCONF Errors writing to the AOF file: No space left on device", False),
        ("Could not connect to Redis at 127.0.0.1:6379: Connection refused", False),
    ],
)
def test_redis_is_healthy_when_it_answers_pong_and_not_when_it_answers_otherwise(
    answer: str, well: bool, tmp_path: Path
) -> None:
    client = tmp_path / "redis-cli"
    client.write_text(f"#!/bin/sh\n[ \"$*\" = ping ] && echo '{answer}'\n", "utf-8")
    client.chmod(0o755)
    assert healthy("redis", {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}) is well
