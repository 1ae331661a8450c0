"""A process with an archive in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import archive_kit
from tests.support.archive_kit import Gallery
from tests.support.fakes import Harness


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    """A process that archives into a folder of the test's own, and may ask this machine."""
    return archive_kit.harness(start, tmp_path)


@pytest.fixture
def gallery(harness: Harness) -> Gallery:
    """Jobs whose images the test serves."""
    return Gallery(harness)
