"""A PostgreSQL server for tests, from the programs of Debian's package."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from orchestrator.cli.ports import free_port
from tests.ledger.kit import eventually


@contextmanager
def running(folder_of_programs: Path) -> Iterator[str]:
    """Run a new server on a free port of 127.0.0.1. Yield the URL of its database.

    PostgreSQL refuses to run as root. Then it runs as `nobody`, in a folder of its own.
    """
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="orchestrator-postgres-") as name:
        folder, port = Path(name), free_port()
        identity: dict[str, Any] = {}
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        log = (folder / "log").open("wb")
        initdb: list[str | Path] = [folder_of_programs / "initdb", "--no-sync", "--username=test"]
        initdb.append("--auth=trust")
        subprocess.run(
            [*initdb, "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata", folder / "data"],
            check=True,
            cwd=folder,
            stdout=log,
            stderr=log,
            **identity,
        )
        options = ["-F", "-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
        server = subprocess.Popen(
            [folder_of_programs / "postgres", "-D", folder / "data", *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            **identity,
        )
        try:
            address = f"//test@127.0.0.1:{port}/postgres"
            eventually(lambda: _answers(f"postgresql:{address}"))
            yield f"postgresql+psycopg:{address}"
        finally:
            server.terminate()
            server.wait()
            log.close()


def _answers(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
        return True
    return False
