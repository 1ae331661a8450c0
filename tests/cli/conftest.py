"""Fixtures of the tests of commands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.fakes import Harness, use_runtime


@pytest.fixture
def start(start: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Harness]:
    """A function that makes a harness. Commands use the runtime of the newest one."""

    def begin(**variables: str | None) -> Harness:
        made = start(**variables)
        use_runtime(monkeypatch, made.runtime)
        return made

    return begin
