"""A process that notifies callers, and the server of one caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from orchestrator.ledger import Ledger
from tests.support import notify_kit
from tests.support.fakes import Answer, FakeProvider, Harness, serving, unavailable_ledger


@pytest.fixture
def receiver() -> Iterator[FakeProvider]:
    """A caller's server. It accepts every message unless the test changes that."""
    with serving(FakeProvider(lambda _: Answer(204))) as server:
        yield server


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    """A process that may notify callers on this machine."""
    return start(**notify_kit.VARIABLES)


@pytest.fixture
def away() -> Ledger:
    """A ledger of a Redis that does not answer."""
    return unavailable_ledger()
