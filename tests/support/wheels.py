"""Builds wheels of the checkout, and installs them into environments of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
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
    _uv("build", "--wheel", "--no-build-isolation", "--out-dir", str(folder), str(copy))
    [wheel] = folder.glob("*.whl")
    return wheel


def server_wheel(folder: Path) -> Path:
    """Build the wheel of the server."""
    return built_wheel(folder, *(ROOT / name for name in SERVER))


def installed(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new environment, which sees our dependencies and not our checkout.

    Return the folder of its programs.
    """
    python = folder / "bin" / "python"
    _uv("venv", str(folder))
    # The processes of a test start at the same time. Each would compile every module.
    _uv("pip", "install", "--no-deps", "--compile-bytecode", str(wheel), python=python)
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    # The .pth file of an editable installation is read in the first folder only.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    return python.parent


def _uv(*arguments: str, python: Path = Path(sys.executable)) -> None:
    """Run uv without a registry. It is much faster than pip."""
    program = str(Path(sys.executable).parent / "uv")
    options = ["--python", str(python), "--offline", "--no-cache", "--no-config"]
    command = [program, *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
