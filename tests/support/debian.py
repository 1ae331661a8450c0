"""Programs of Debian's packages that some tests use. Without them these tests are skipped.

As a script it installs packages, if it runs as root and apt works. `.ci/run` calls it before there
is a virtual environment, so it needs only the standard library:

    python3 tests/support/debian.py chromium-headless-shell postgresql prometheus rabbitmq-server
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: A program of each package. A star stands for a version.
PROGRAMS = {
    "caddy": "/usr/bin/caddy",
    "chromium-headless-shell": "/usr/bin/chromium-headless-shell",
    "postgresql": "/usr/lib/postgresql/*/bin/initdb",
    "prometheus": "/usr/bin/prometheus",
    "rabbitmq-server": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "redis-tools": "/usr/bin/redis-cli",
    "rsync": "/usr/bin/rsync",
    "sqlite3": "/usr/bin/sqlite3",
}
#: Prevents two test processes from installing at once, and a second try after a failure.
LOCK = Path(tempfile.gettempdir()) / f"orchestrator-debian-{os.getuid()}.lock"
#: apt gives up a server that does not answer in this time. Seconds.
TIMEOUT_SECONDS = 15


def program(package: str) -> Path | None:
    """Return the program of a package, or None if it is not installed and cannot be."""
    found = _find(package)
    if found is None and _installable():
        with LOCK.open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.seek(0)
            if _find(package) is None and package not in lock.read().split():
                lock.write(f"{package}\n")
                install(package)
        found = _find(package)
    return found


def missing(package: str) -> str:
    """Return why a test is skipped."""
    return f"{package} is not installed. Run: sudo apt-get install {package}"


def install(*packages: str) -> bool:
    """Install packages, and return whether apt did."""
    options = [f"-oAcquire::http::Timeout={TIMEOUT_SECONDS}", "-oAcquire::Retries=0", "-qq"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (["update"], ["install", "-y", "--no-install-recommends", *packages])
    return all(
        subprocess.run(
            ["apt-get", *options, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=False,
        ).returncode
        == 0
        for command in commands
    )


def _find(package: str) -> Path | None:
    pattern = PROGRAMS[package]
    installed = sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)
    if installed:
        return installed[0]
    elsewhere = shutil.which(Path(pattern).name)
    return Path(elsewhere).resolve() if elsewhere else None


def _installable() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def main(packages: list[str]) -> None:
    """Install what is missing. Say what cannot be installed: its tests are skipped."""
    for package in packages:
        if _find(package):
            continue
        if _installable():
            sys.stderr.write(f"Installing the Debian package {package} ...\n")
            install(package)
        if _find(package) is None:
            sys.stderr.write(f"{missing(package)}. Its tests are skipped.\n")


if __name__ == "__main__":
    main(sys.argv[1:])
