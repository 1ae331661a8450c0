"""A PostgreSQL server for a peer, from the programs of Debian's package."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.peers.installation import MissingPeer
from benchmarks.processes import Processes, wait_for
from orchestrator.cli.ports import free_port

#: Debian installs the programs of each version there.
PROGRAMS = Path("/usr/lib/postgresql")


def start(processes: Processes, folder: Path) -> str:
    """Start a new server on 127.0.0.1. Return the URL of its database.

    PostgreSQL refuses to run as root. Then it runs as `nobody`.

    Raises:
        MissingPeer: PostgreSQL is not installed.
    """
    found = sorted(PROGRAMS.glob("*/bin/initdb"))
    if not found:
        raise MissingPeer("PostgreSQL is not installed. Run apt-get install postgresql.")
    programs, port, data = found[-1].parent, free_port(), folder / "postgres"
    data.mkdir()
    identity: dict[str, Any] = {"cwd": data}
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(data, user.pw_uid, user.pw_gid)
        for parent in (folder, folder.parent):
            parent.chmod(0o755)
        identity |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    cluster: list[str | Path] = [
        programs / "initdb",
        "--username=test",
        "--auth=trust",
        "--encoding=UTF8",
    ]
    cluster += ["--pgdata", data / "data"]
    subprocess.run(cluster, check=True, capture_output=True, **identity)
    server: list[str | Path] = [programs / "postgres", "-D", data / "data"]
    server += ["-h", "127.0.0.1", "-p", str(port), "-k", data]
    processes.start("postgres", server, **identity)
    ready: list[str | Path] = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    wait_for("PostgreSQL", lambda: subprocess.run(ready, check=False).returncode == 0)
    return f"postgresql+psycopg://test@127.0.0.1:{port}/postgres"
