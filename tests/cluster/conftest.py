"""A cluster for the tests of this folder, and a ledger on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import RedisCluster

from orchestrator.ledger import Ledger
from orchestrator.ledger.connection import connect
from orchestrator.servers.redis_server import RedisServer
from tests.support.redis_servers import ClusterServers, running_cluster

#: Jobs are spread over all masters.
SHARDS = 7


@pytest.fixture(scope="module")
def started() -> Iterator[ClusterServers]:
    with running_cluster() as servers:
        yield servers


@pytest.fixture
def cluster(started: ClusterServers) -> ClusterServers:
    """A cluster whose servers are empty."""
    with connect(RedisServer.parse(started.url, is_cluster=True)) as client:
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
    return started


@pytest.fixture
def ledger(cluster: ClusterServers) -> Ledger:
    """A ledger whose writes are in a replica before they count."""
    return Ledger.from_url(cluster.url, is_cluster=True, shards=SHARDS, wait_replicas=1)
