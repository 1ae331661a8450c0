"""The health checks of docker-compose.yml at their edges; test_life runs them on real processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from redis import Redis

from orchestrator.cli.stack import free_port
from orchestrator.steps.reconcile import SWEEP_STALE_SECONDS
from tests.deployment.kit import healthy, services, swept


def environment(**variables: str) -> dict[str, str]:
    here = Path(sys.executable).parent
    return {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}", **variables}


def test_worker_and_beat_prove_themselves_by_the_same_check() -> None:
    assert services()["worker"]["healthcheck"] == services()["beat"]["healthcheck"]


def test_a_sweep_is_too_old_when_readyz_says_so(redis_url: str, real_redis: Redis) -> None:
    env = environment(ORCHESTRATOR_REDIS_URL=redis_url)
    swept(redis_url, seconds_ago=0)
    assert healthy("worker", env)
    swept(redis_url, seconds_ago=SWEEP_STALE_SECONDS + 1)
    assert not healthy("worker", env)


def test_without_any_sweep_a_worker_is_unhealthy(redis_url: str, real_redis: Redis) -> None:
    assert not healthy("worker", environment(ORCHESTRATOR_REDIS_URL=redis_url))


def test_a_worker_is_unhealthy_while_the_ledger_is_away() -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    assert not healthy("worker", environment(ORCHESTRATOR_REDIS_URL=away))


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
    env = environment()
    assert healthy("redis", {**env, "PATH": f"{tmp_path}{os.pathsep}{env['PATH']}"}) is well
