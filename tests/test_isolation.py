"""What a test must not do to the machine that it runs on."""

from __future__ import annotations

import pytest
from redis import Redis, RedisError

from orchestrator.servers.redis_server import RedisServer


def test_no_test_reaches_the_redis_of_a_developer() -> None:
    [(host, port)] = RedisServer.parse("redis://127.0.0.1").hosts

    with Redis(host=host, port=port) as client, pytest.raises(RedisError, match="leaves"):
        client.ping()
