"""Fixtures of the ledger's tests. tests/conftest.py has `redis` and `ledger`, on a real server.

With `--redis-cluster` these tests run on a cluster. Some read or break one server: they are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import pytest
from redis import Redis, RedisCluster

from orchestrator.ledger import Ledger, ProviderLimits
from orchestrator.ledger.connection import connect
from orchestrator.servers.redis_server import RedisServer
from tests.ledger.recording import RecordingClient
from tests.support.redis_servers import running_cluster

#: Makes a ledger with these limits of HiAPI.
MakeLedger = Callable[[ProviderLimits], Ledger]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.redis_cluster:
        for item in items:
            if item.get_closest_marker("one_server"):
                item.add_marker(pytest.mark.skip("it reads or breaks one server"))


@pytest.fixture(autouse=True)
def _on_a_cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.config.option.redis_cluster:
        monkeypatch.setattr(Ledger, "from_url", partial(Ledger.from_url, is_cluster=True))


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest, redis_url: str) -> Iterator[str]:
    """The URL of the server, or of a cluster with `--redis-cluster`."""
    if not request.config.option.redis_cluster:
        yield redis_url
        return
    if running := request.config.option.redis_cluster_url:
        yield running
        return
    with running_cluster() as servers:
        yield servers.url


@pytest.fixture
def real_redis(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Redis]:
    """A client of the server, or of the cluster. It is empty before each test."""
    if not request.config.option.redis_cluster:
        with Redis.from_url(redis_url, decode_responses=True) as client:
            client.flushdb()
            yield client
        return
    with connect(RedisServer.parse(redis_url, is_cluster=True)) as client:
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
        yield client


@pytest.fixture
def limited(redis: Redis) -> MakeLedger:
    return lambda limits: Ledger(lambda: redis, limits={"hiapi": limits})


@pytest.fixture
def recorder(redis: Redis) -> RecordingClient:
    """A client of the server of `redis`. It records every script call."""
    return RecordingClient(redis)


@pytest.fixture
def recorded_ledger(recorder: RecordingClient) -> Ledger:
    """A ledger that uses the recording client."""
    return Ledger(lambda: cast(Redis, recorder))


@pytest.fixture
def sharded(redis: Redis) -> Ledger:
    """A ledger with several shards."""
    return Ledger(lambda: redis, shards=5)
