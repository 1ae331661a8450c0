from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from redis import Redis

from orchestrator.ledger import Ledger
from tests.support.fakes import Harness
from tests.webhooks.kit import Receiver

#: Starts a receiver; keyword arguments are environment variables.
Open = Callable[..., Receiver]


@pytest.fixture
def open_receiver(start: Callable[..., Harness], redis: Redis, ledger: Ledger) -> Open:
    """A receiver on the database of the ledger fixture."""

    def begin(**variables: str | None) -> Receiver:
        harness = start(**variables)
        parts = replace(harness.runtime, ledger=ledger)
        return Receiver.on(replace(harness, runtime=parts, redis=redis))

    return begin


@pytest.fixture
def receiver(open_receiver: Open) -> Receiver:
    return open_receiver()
