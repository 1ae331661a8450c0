"""Fixtures of what doctor checks over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from orchestrator.settings.settings import Settings
from tests.net.servers import Serve, serving
from tests.support.fakes import Harness


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as begin:
        yield begin


@pytest.fixture
def settings(start: Callable[..., Harness]) -> Settings:
    return start().runtime.settings
