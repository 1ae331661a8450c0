"""Settings of the tests, and what a bad one is refused with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.settings.environment import ConfigError
from orchestrator.settings.settings import Settings
from tests.support.providers import ENABLED

DOCS = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
HIDDEN = "hidden-4f1c9a-and-long-enough"
PUBLIC = {
    "ORCHESTRATOR_PUBLIC_URL": "https://hooks.example.com",
    "ORCHESTRATOR_SECRET_KEY": "k" * 16,
}
KEYS = dict(ENABLED)
#: Everything that leads to another variable being read.
ALL = {
    **PUBLIC,
    **KEYS,
    "HIAPI_WEBHOOK_SECRET": "whsec_1",
    "ORCHESTRATOR_NOTIFY_SECRET": "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cy0zMi1ieXRlcyEh",
}


def refusal(read: Any, **variables: str) -> str:
    """The one line that a bad setting is refused with."""
    with pytest.raises(ConfigError) as error:
        read(**variables)
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert error.value.__cause__ is None
    return text


def found(settings: Settings, place: str) -> Any:
    value: Any = settings
    for step in place.split("."):
        value = value[step] if isinstance(value, dict) else getattr(value, step)
    return value
