"""Fixtures of the ledger's tests. tests/conftest.py has `redis` and `ledger`, on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from redis import Redis

from orchestrator.ledger import Ledger, ProviderLimits
from tests.ledger.recording import RecordingClient

#: Makes a ledger with these limits of HiAPI.
MakeLedger = Callable[[ProviderLimits], Ledger]


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
def shared_ledger(real_redis: Redis, redis_url: str) -> Ledger:
    """A ledger with its own connections. Many threads may use it at once."""
    return Ledger.from_url(redis_url)
