"""The script of CI: it installs what tests use, checks and tests."""

from __future__ import annotations

import os
import re
import subprocess

from orchestrator.cli.stack import ROOT
from tests.support import debian

SCRIPT = ROOT / ".ci/run"


def test_it_checks_and_tests_after_it_installed_the_programs_of_all_tests() -> None:
    text = SCRIPT.read_text("utf-8")
    assert os.access(SCRIPT, os.X_OK)
    commands = [line for line in text.splitlines() if not line.startswith("#")]
    assert commands[-3:] == [
        "make check",
        ".venv/bin/python tests/support/javascript.py",
        "make test",
    ]
    [packages] = re.findall(r"(?m)^python3 tests/support/debian\.py (.+)$", text)
    assert packages.split() == sorted(debian.PROGRAMS)


def test_a_shell_can_read_it() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
