"""Which test files run in one test process, and when: tests/support/scheduling.py."""

from __future__ import annotations

import os
import re

import pytest

from orchestrator.cli.stack import ROOT
from tests.support import importing
from tests.support.scheduling import LONGEST, SHARED_PROCESSES, positions

#: Uses of a shared fixture in the arguments of a test.
_USE = r"def test_\w+\([^)]*\b(?:%s)\b[^)]*:"


def test_the_browser_tests_share_one_product() -> None:
    using = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests" / "dashboard").glob("test_*.py")
        if re.search(_USE % "site|page|open_page|browser", path.read_text("utf-8"))
    }

    assert using == set(SHARED_PROCESSES["site"])


def test_every_named_file_exists() -> None:
    named = {path for paths in SHARED_PROCESSES.values() for path in paths}
    named |= set(LONGEST) - SHARED_PROCESSES.keys()

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_files_that_wait_run_between_the_others() -> None:
    first, second = LONGEST[-2:]
    later, sooner = SHARED_PROCESSES["archives"][::-1]
    order = positions(["a", "b", second, "c", later, first, "d", sooner, "e", "f"])

    ran = sorted(order, key=lambda path: order[path])
    assert ran == [sooner, later, "a", "b", first, "c", "d", second, "e", "f"]


def test_a_test_process_is_a_copy_of_one_that_has_imported_the_tests(
    pytestconfig: pytest.Config,
) -> None:
    # Without pytest-xdist there is one process.
    assert len(importing.copied) == hasattr(pytestconfig, "workerinput")
    assert os.getpid() not in importing.copied
