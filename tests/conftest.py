"""Fixtures of the whole suite: a clean environment, a real Redis, and ledgers on both kinds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest
from redis import Redis

from orchestrator.cli.stack import embedded_redis
from orchestrator.ledger import Ledger

OURS = ("ORCHESTRATOR_", "HIAPI_", "EVOLINK_", "UNIALL_", "AIGPTIMAGE_")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server of the suite's own."""
    folder: Path = tmp_path_factory.mktemp("redis")
    with embedded_redis(folder) as url:
        yield url


@pytest.fixture
def real_redis(redis_url: str) -> Iterator[Redis]:
    """A client of the real server, empty before the test."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.flushdb()
        yield client


@pytest.fixture(params=["fakeredis", "redis"])
def redis(request: pytest.FixtureRequest) -> Redis:
    """The same test on fakeredis and on a real server."""
    if request.param == "redis":
        client: Redis = request.getfixturevalue("real_redis")
        return client
    return fakeredis.FakeRedis(decode_responses=True)


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    """A ledger of one shard."""
    return Ledger(lambda: redis)
