"""A process that notifies callers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import notify_kit
from tests.support.fakes import Harness


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    """A process that may notify callers on this machine."""
    return start(**notify_kit.VARIABLES)
