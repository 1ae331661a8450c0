"""A harness whose callers want to be told, and the server that one of them runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fakeredis
import pytest

from orchestrator.ledger import Ledger
from tests.support.fakes import Answer, FakeProvider, Harness, serving
from tests.support.notify_kit import VARIABLES


@pytest.fixture
def receiver() -> Iterator[FakeProvider]:
    """A caller's server, which takes what it is told unless the test says otherwise."""
    with serving(FakeProvider(lambda _: Answer(204))) as fake:
        yield fake


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    """A process' parts that may tell callers on this machine."""
    return start(**VARIABLES)


@pytest.fixture
def away() -> Ledger:
    """A ledger whose Redis does not answer."""
    server = fakeredis.FakeServer()
    server.connected = False
    return Ledger(lambda: fakeredis.FakeRedis(server=server, decode_responses=True))
