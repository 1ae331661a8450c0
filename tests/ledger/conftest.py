"""Fixtures of the ledger's tests; `ledger` and `redis`, on both kinds of server, are above."""

from __future__ import annotations

from typing import cast

import pytest
from redis import Redis

from orchestrator.ledger import Ledger
from tests.ledger.kit import Wire


@pytest.fixture
def wire(redis: Redis) -> Wire:
    """The way to the same server as `redis`, remembering what passed."""
    return Wire(redis)


@pytest.fixture
def wired(wire: Wire) -> Ledger:
    """A ledger that speaks over the wire."""
    return Ledger(lambda: cast(Redis, wire))


@pytest.fixture
def crowd(real_redis: Redis, redis_url: str) -> Ledger:
    """A ledger on the real server that many threads may use at once."""
    return Ledger.from_url(redis_url)
