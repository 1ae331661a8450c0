"""The rights that docs/redis.md names are enough for every process, and are no more than that.

All tests that share `stack` run with these rights.
"""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from tests.system.conftest import Client, eventually


def test_every_process_runs_with_the_documented_rights(client: Client, admin: Redis) -> None:
    jobs = [client.enqueue("hiapi", "a cube"), client.enqueue("uniall", "a cube")]
    assert [client.outcome(job)["status"] for job in jobs] == ["succeeded"] * 2
    eventually(lambda: client.job(jobs[0])["archive"]["status"] == "done")

    denied: Any = admin.acl_log()

    assert [entry["object"] for entry in denied] == []


def test_the_documented_rights_are_no_more_than_needed(client: Client, admin: Redis) -> None:
    with Redis.from_url(client.stack.redis_url or "") as restricted:
        with pytest.raises(NoPermissionError):
            restricted.get("another:key")
        with pytest.raises(NoPermissionError):
            restricted.flushall()
    admin.acl_log_reset()
