"""Builds wheels of the checkout, and installs them into environments of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from orchestrator.cli.stack import ROOT

#: What the wheel of the server is built from.
SERVER = (
    "orchestrator",
    "workers",
    "webhooks",
    "sandbox",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


def built_wheel(folder: Path, *sources: Path) -> Path:
    """Build the wheel of a project from a copy of its files. Nothing is downloaded."""
    copy = folder / "source"
    copy.mkdir()
    for path in sources:
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, copy / path.name, ignore=ignored)
        else:
            shutil.copy(path, copy)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(copy))
    [wheel] = folder.glob("*.whl")
    return wheel


def server_wheel(folder: Path) -> Path:
    """Build the wheel of the server."""
    return built_wheel(folder, *(ROOT / name for name in SERVER))


def installed(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new environment, which sees our dependencies and not our checkout.

    Return the folder of its programs.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    _pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    # The .pth file of an editable installation is read in the first folder only.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    return python.parent


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
