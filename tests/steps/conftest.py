"""Fixtures of the tests of steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.fakes import Harness


@pytest.fixture
def behind_nat(start: Callable[..., Harness]) -> Harness:
    """A process without a public URL. It requests no callbacks, and learns outcomes by polls."""
    return start(ORCHESTRATOR_PUBLIC_URL=None)
