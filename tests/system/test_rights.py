"""The rights that docs/redis.md names are enough for every process, and are no more than that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from orchestrator.cli.stack import ROOT, Stack
from tests.ledger.kit import eventually
from tests.support.redis_servers import new_server
from tests.system.conftest import ONE_WEB_PROCESS, TIMES, Client

PASSWORD = "password-of-the-installation"


def documented_rights() -> list[str]:
    """Return the words of the ACL command in the page."""
    page = (ROOT / "docs" / "redis.md").read_text("utf-8")
    [line] = re.findall(r"^ACL SETUSER .*$", page, re.M)
    return str(line).replace(">password", f">{PASSWORD}").split()


def test_every_process_runs_with_the_documented_rights(tmp_path: Path) -> None:
    server = new_server(tmp_path, "")
    server.options = [*server.options, "--appendonly", "yes"]
    server.start()
    try:
        with server.client() as admin:
            admin.execute_command(*documented_rights())
            url = f"redis://orchestrator:{PASSWORD}@127.0.0.1:{server.port}/0"
            processes = ("web", "worker", "beat", "intake", "recorder")
            settings = {**TIMES, **ONE_WEB_PROCESS, "ORCHESTRATOR_BROKER_URL": url}
            with Stack(
                processes, redis_url=url, task_seconds=0.2, settings=settings, folder=tmp_path / "s"
            ) as stack:
                client = Client(stack)
                jobs = [client.enqueue("hiapi", "a cube"), client.enqueue("uniall", "a cube")]
                assert [client.outcome(job)["status"] for job in jobs] == ["succeeded"] * 2
                eventually(lambda: client.job(jobs[0])["archive"]["status"] == "done")
            denied: Any = admin.acl_log()

            assert [entry["object"] for entry in denied] == []
        with server.client() as restricted:
            restricted.execute_command("AUTH", "orchestrator", PASSWORD)
            with pytest.raises(NoPermissionError):
                restricted.get("another:key")
            with pytest.raises(NoPermissionError):
                restricted.flushall()
    finally:
        server.kill()
