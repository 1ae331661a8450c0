"""Files that use the same running product are in one test process, so that it starts once."""

from __future__ import annotations

import re

from orchestrator.cli.stack import ROOT
from tests.support.scheduling import SHARED_PROCESSES

#: Uses of a shared fixture in the arguments of a test.
_USE = r"def test_\w+\([^)]*\b(?:%s)\b[^)]*:"


def test_the_browser_tests_share_one_product() -> None:
    using = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests" / "dashboard").glob("test_*.py")
        if re.search(_USE % "site|page|open_page|browser", path.read_text("utf-8"))
    }

    assert using == set(SHARED_PROCESSES["site"])
