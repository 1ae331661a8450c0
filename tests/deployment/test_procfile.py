"""The Procfile, and what its commands need from us."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from honcho.environ import parse_procfile

from orchestrator.cli.processes import PROCESSES
from orchestrator.cli.stack import ROOT
from tests.deployment.kit import text


def test_the_procfile_is_valid_to_honcho() -> None:
    tool = str(Path(sys.executable).parent / "honcho")
    told = subprocess.run([tool, "check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_it_starts_each_process_by_its_command() -> None:
    lines = parse_procfile(text("Procfile")).processes
    assert lines == {name: f"orchestrator {name}" for name in PROCESSES}
