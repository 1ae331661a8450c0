from __future__ import annotations

from typing import Any

import pytest

from orchestrator.settings.settings import Settings


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that reads the settings of an environment."""

    def begin(**variables: str) -> Settings:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return Settings.from_env()

    return begin
