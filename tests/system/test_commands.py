"""`orchestrator demo` and `dev`, as a stranger runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from orchestrator.cli.demo_scenarios import SCENARIOS
from orchestrator.cli.ports import free_port
from tests.support.wheels import installed, server_wheel
from tests.system.conftest import ONE_WEB_PROCESS, eventually

#: The programs of our environment.
PROGRAMS = Path(sys.executable).parent


class CommandRun:
    """A command, and every process it started: they inherit a mark in their environment."""

    def __init__(self, folder: Path, *arguments: str, programs: Path = PROGRAMS) -> None:
        self._mark = f"RUN_MARK={uuid4()}"
        name, _, value = self._mark.partition("=")
        # A shell lets what it starts in the background ignore SIGINT, and children inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        inherited = dict(os.environ)
        if programs != PROGRAMS:
            inherited.pop("PYTHONPATH", None)  # it may name the checkout
        self.process = subprocess.Popen(
            [programs / "orchestrator", *arguments],
            cwd=folder,
            env={**inherited, **ONE_WEB_PROCESS, name: value},
            stdout=subprocess.PIPE,
            text=True,
        )

    def printed(self) -> dict[str, Any]:
        """The JSON that it printed."""
        assert self.process.stdout
        lines = iter(self.process.stdout.readline, "")
        printed: dict[str, Any] = json.loads(next(line for line in lines if line.startswith("{")))
        return printed

    def alive(self) -> dict[int, str]:
        """The command lines of what is still running, by process id."""
        found = {int(path.name): self._read(path) for path in Path("/proc").glob("[0-9]*")}
        return {process_id: line for process_id, line in found.items() if line}

    def _read(self, process: Path) -> str:
        try:
            if self._mark.encode() not in (process / "environ").read_bytes().split(b"\0"):
                return ""
            return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it ended while we looked
            return ""

    def __enter__(self) -> CommandRun:
        return self

    def __exit__(self, *_: object) -> None:
        # After a failure the processes of the command still run, and hold its output open.
        self.process.kill()
        for process_id in self.alive():
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        self.process.communicate()


def test_the_demo_of_the_wheel_ends_as_it_should_and_leaves_nothing_running(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It runs from a folder that has modules of the same names as ours."""
    for name in ("workers", "webhooks", "sandbox"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n", "utf-8")
    wheel = server_wheel(tmp_path_factory.mktemp("wheel"))
    programs = installed(wheel, tmp_path_factory.mktemp("environment"))
    with CommandRun(tmp_path, "demo", "--keep", "--json", programs=programs) as run:
        report = run.printed()
        assert report["wrong"] == []
        assert len(report["jobs"]) == report["tasks_charged"] == 22
        settled_by = {job["settled_by"] for job in report["jobs"]}
        assert settled_by == {"callback", "deadline", "poll", "submit"}
        assert {job["provider"] for job in report["jobs"]} == {s.provider for s in SCENARIOS}
        assert all((tmp_path / file).exists() for job in report["jobs"] for file in job["files"])
        sign_in = f"{report['dashboard']}/sign-in"
        assert requests.post(sign_in, data={"key": report["key"]}, timeout=60).ok
        run.process.send_signal(signal.SIGTERM)
        run.process.communicate(timeout=120)
        assert run.process.returncode == 128 + signal.SIGTERM
        assert run.alive() == {}


def test_dev_runs_until_it_is_stopped(tmp_path: Path) -> None:
    ports = ["--port", str(free_port()), "--sandbox-port", str(free_port())]
    with CommandRun(tmp_path, "dev", "--json", "--task-seconds", "0.2", *ports) as run:
        told = run.printed()
        headers = {"Authorization": f"Bearer {told['key']}"}
        body = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A fox"}
        job = requests.post(f"{told['api']}/v1/jobs", json=body, headers=headers, timeout=60).json()
        url = f"{told['api']}/v1/jobs/{job['id']}?wait=20"
        eventually(lambda: requests.get(url, headers=headers, timeout=60).json()["settled_at"])
        assert Path(told["exports"]).stat().st_mode & 0o777 == 0o600
        line = f". {told['exports']} && orchestrator get {job['id']} --json"
        shown = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
        assert json.loads(shown.stdout)["status"] == "succeeded"
        run.process.send_signal(signal.SIGINT)
        run.process.communicate(timeout=120)
        assert run.process.returncode == 0
        assert run.alive() == {}
