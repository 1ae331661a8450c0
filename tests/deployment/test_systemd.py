"""The units of deploy/systemd, by systemd's own checks. No service is started."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.processes import PROCESSES
from orchestrator.cli.stack import ROOT
from orchestrator.messages import ARCHIVE_QUEUE

FOLDER = ROOT / "deploy/systemd"
#: The highest exposure that `systemd-analyze security` may find, of 10. In tenths.
MAX_EXPOSURE = 15
INSTALLED = "/opt/orchestrator/.venv/bin/orchestrator"


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units with an instance of each template, and with the command of this environment."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed. Run: sudo apt-get install systemd")
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    command = str(Path(sys.executable).with_name("orchestrator"))
    for unit in tmp_path.glob("*.service"):
        changed = unit.read_text("utf-8").replace(INSTALLED, command)
        unit.with_name(unit.name.replace("@", "@1")).write_text(changed, "utf-8")
    return sorted(unit for unit in tmp_path.glob("*.service") if "@." not in unit.name)


def analyze(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_process_has_a_unit_that_runs_its_command() -> None:
    found = {}
    for unit in FOLDER.glob("*.service"):
        [command] = re.findall(r"(?m)^ExecStart=(.+)$", unit.read_text("utf-8"))
        found[unit.name] = command
    single = {f"orchestrator-{name}.service": f"{INSTALLED} {name}" for name in PROCESSES}
    worker = single.pop("orchestrator-worker.service")
    several = {f"orchestrator-{name}@.service": worker for name in ("worker", "archiver")}
    agents = {"orchestrator-mcp.service": f"{INSTALLED} mcp --http 127.0.0.1:8090"}
    assert found == single | several | agents
    archiver = (FOLDER / "orchestrator-archiver@.service").read_text("utf-8")
    assert f"Environment=WORKER_QUEUES={ARCHIVE_QUEUE}\n" in archiver


def test_the_server_for_agents_has_no_secret_of_the_installation() -> None:
    """systemd reads the files of both folders in the order of their names. The last one counts."""
    files = [*FOLDER.glob("orchestrator-.service.d/*"), *FOLDER.glob("orchestrator-mcp*.d/*")]
    last = max(files, key=lambda file: file.name)
    own = last.read_text("utf-8").splitlines()
    assert last.parent.name == "orchestrator-mcp.service.d"
    for name in ("User", "StateDirectory", "EnvironmentFile"):
        assert f"{name}=" in own
    assert [line for line in own if line.startswith("EnvironmentFile=")] == [
        "EnvironmentFile=",
        "EnvironmentFile=-/etc/orchestrator/mcp.env",
    ]


def test_systemd_accepts_the_units(units: list[Path]) -> None:
    told = analyze(units[0].parent, "verify", "--man=no", "orchestrator.target", *units)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_the_units_are_hardened(units: list[Path]) -> None:
    limit = f"--threshold={MAX_EXPOSURE}"
    told = analyze(units[0].parent, "security", "--offline=true", limit, *units)
    assert told.returncode == 0, told.stdout + told.stderr
