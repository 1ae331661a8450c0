from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from redis import Redis

from orchestrator.ledger import Ledger
from tests.fakes import World
from tests.webhooks.kit import Receiver

#: Starts a receiver; keyword arguments are environment variables.
Open = Callable[..., Receiver]


@pytest.fixture
def open_receiver(start: Callable[..., World], redis: Redis, ledger: Ledger) -> Open:
    """The same test on fakeredis and on a real server."""

    def begin(**variables: str | None) -> Receiver:
        world = start(**variables)
        parts = replace(world.runtime, ledger=ledger)
        return Receiver.on(replace(world, runtime=parts, redis=redis))

    return begin


@pytest.fixture
def receiver(open_receiver: Open) -> Receiver:
    return open_receiver()
