"""The Python API works in a parent and in its forked children, as under gunicorn or Celery."""

from __future__ import annotations

import ast
import json
import os
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

from redis import Redis

import orchestrator
from orchestrator.messages import QUEUE
from tests.support import fork_server
from tests.system.forking import CHILDREN

PACKAGE = Path(orchestrator.__file__).parent
#: What a child must not share with its parent.
PRIMITIVES = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "local"}
#: Only web and worker use these. They do not fork once they have threads.
OF_SERVERS = {
    "api/bulk.py",
    "api/images.py",
    "api/reports.py",
    "callbacks/drain.py",
    "callbacks/spool.py",
    "storage/thumbnails.py",
}


def test_no_process_reads_the_answer_to_another(real_redis: Redis, redis_url: str) -> None:
    variables = {"ORCHESTRATOR_REDIS_URL": redis_url, "HIAPI_API_KEY": "sandbox"}
    ran = fork_server.run(["-m", "tests.system.forking"], environment={**os.environ, **variables})

    lines = [line.split(" ") for line in ran.stdout.splitlines()]
    assert (ran.returncode, {wrong for _, wrong, _ in lines}) == (0, {"0"}), ran.stderr + ran.stdout
    assert len(lines) == CHILDREN + 1
    made = {job for _, _, jobs in lines for job in jobs.split(",")}
    assert made <= nudged(real_redis), "each process sends its own nudges"


def nudged(redis: Redis) -> set[str]:
    messages: Any = redis.lrange(QUEUE, 0, -1)
    bodies = [b64decode(json.loads(message)["body"]).decode() for message in messages]
    return {job for body in bodies for job in re.findall(r"job_\w{28}", body)}


def test_every_module_with_a_lock_makes_a_new_one_in_a_child() -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in PRIMITIVES
        and ast.unparse(node.value) == "threading"
    }
    forgotten = {
        name
        for name in found - OF_SERVERS
        if "renew_in_children(self)" not in (PACKAGE / name).read_text("utf-8")
    }

    assert forgotten == set()
    assert found >= OF_SERVERS
