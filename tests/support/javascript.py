"""The clients in JavaScript that some tests use. Without them these tests are skipped.

Node.js comes with the development packages. As a script this module installs the clients, with the
versions of tests/system/javascript/package-lock.json. `.ci/run` calls it before the tests:

    .venv/bin/python tests/support/javascript.py
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "system" / "javascript"
FOLDER = ROOT / "build" / "javascript"
#: A copy of the lock file after a complete installation.
STAMP = FOLDER / "installed.json"
LOCK = "package-lock.json"
#: An installation must end in this time. Seconds.
MAX_SECONDS = 300


def node() -> Path:
    """Return the path of Node.js in the environment of this process."""
    return Path(sys.executable).with_name("node")


def installed() -> Path | None:
    """Return the folder with the clients, or None if they cannot be installed."""
    if not node().exists():
        return None
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return FOLDER if _is_current() or _install() else None


def missing() -> str:
    """Return why a test is skipped."""
    return "npm could not install the clients of tests/system/javascript"


def _is_current() -> bool:
    return STAMP.exists() and STAMP.read_bytes() == (SOURCES / LOCK).read_bytes()


def _install() -> bool:
    for name in ("package.json", LOCK):
        shutil.copy(SOURCES / name, FOLDER)
    npm = str(node().with_name("npm"))
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    try:
        done = subprocess.run(command, cwd=FOLDER, check=False, timeout=MAX_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode == 0:
        shutil.copy(SOURCES / LOCK, STAMP)
    return done.returncode == 0


if __name__ == "__main__":
    if installed() is None:
        print(missing(), file=sys.stderr)  # noqa: T201
