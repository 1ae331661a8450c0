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


@pytest.fixture
def strict(start: Callable[..., Harness], tmp_path: Path) -> Gallery:
    """A gallery with a limit of 100000 bytes and 4 million pixels."""
    limits = {
        "ORCHESTRATOR_MAX_IMAGE_BYTES": "100000",
        "ORCHESTRATOR_MAX_IMAGE_PIXELS": "4000000",
    }
    return Gallery(archive_kit.harness(start, tmp_path, **limits))
