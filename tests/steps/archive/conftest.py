"""Fixtures of the archive step's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import archive_kit
from tests.support.archive_kit import Gallery
from tests.support.fakes import Harness


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    """A harness that archives into the test's folder and may call this machine."""
    return archive_kit.harness(start, tmp_path)


@pytest.fixture
def gallery(harness: Harness) -> Gallery:
    """Jobs with images that the test serves."""
    return Gallery(harness)
