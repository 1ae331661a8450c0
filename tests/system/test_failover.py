"""A Redis that answers and refuses: a failover behind one address, and a full memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import requests
from redis import Redis

from orchestrator.cli.stack import Stack, embedded_redis
from tests.support.providers import EXAMPLE_MODELS
from tests.system.conftest import TIMES, Client, eventually
from tests.system.test_faces import send
from tests.system.wire import Wire


@dataclass(frozen=True)
class Pair:
    """A stack whose Redis is behind one address, and a second server."""

    client: Client
    wire: Wire
    master: Redis
    second: Redis

    def fail_over(self) -> None:
        """Make the second server the master. Connections to the first one stay open."""
        self.second.replicaof(*_address(self.master))
        eventually(lambda: _info(self.second)["master_link_status"] == "up")
        self.second.replicaof("NO", "ONE")
        self.master.replicaof(*_address(self.second))
        self.wire.target = int(_address(self.second)[1])

    def ready(self) -> tuple[int, dict[str, str]]:
        answer = requests.get(f"{self.client.stack.web_url}/readyz", timeout=60)
        return answer.status_code, answer.json()


def _info(redis: Redis) -> dict[str, Any]:
    info: Any = redis.info("replication")
    return dict(info)


def _address(redis: Redis) -> tuple[str, str]:
    return "127.0.0.1", str(redis.connection_pool.connection_kwargs["port"])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as closing:
        urls = [closing.enter_context(embedded_redis(tmp_path / name)) for name in ("one", "two")]
        clients = [closing.enter_context(Redis.from_url(url)) for url in urls]
        wire = closing.enter_context(Wire(urlsplit(urls[0]).port or 0))
        stack = Stack(
            ("web", "worker", "beat", "intake"),
            redis_url=f"redis://127.0.0.1:{wire.port}/0",
            task_seconds=0.2,
            settings=TIMES,
            folder=tmp_path,
        )
        yield Pair(Client(closing.enter_context(stack)), wire, *clients)


def test_every_process_leaves_an_old_master_and_waits_out_a_full_one(pair: Pair) -> None:
    _every_process_works(pair)

    pair.fail_over()
    _every_process_works(pair)

    pair.second.config_set("maxmemory", 1)
    eventually(lambda: pair.ready()[0] == 503)
    assert pair.ready()[1]["ledger"] == "refuses writes (OOM)"
    assert _refused(pair)["type"] == "urn:orchestrator:problem:ledger-unavailable"
    pair.second.config_set("maxmemory", 0)
    _every_process_works(pair)


def _every_process_works(pair: Pair) -> None:
    """A job gets its outcome by the web process and by intake, and beat asks for sweeps."""
    client, text = pair.client, str(uuid4())
    eventually(lambda: pair.ready()[0] == 200)
    assert client.outcome(client.enqueue("hiapi", str(uuid4())))["status"] == "succeeded"
    send(client, str(uuid4()), provider="hiapi", model=EXAMPLE_MODELS["hiapi"], prompt=text)
    eventually(lambda: client.tasks(text))
    swept = _last_sweep(client)
    eventually(lambda: _last_sweep(client) > swept)
    assert client.stack.dead() is None


def _last_sweep(client: Client) -> int:
    with Redis.from_url(client.stack.redis_url or "") as redis:
        at: Any = redis.hget("{orch:0}:sweep", "at")
    return int(at)


def _refused(pair: Pair) -> dict[str, Any]:
    client = pair.client
    body = {"provider": "hiapi", "model": EXAMPLE_MODELS["hiapi"], "prompt": "a"}
    url = f"{client.stack.web_url}/v1/jobs"
    answer = requests.post(url, json=body, headers=client.headers, timeout=60)
    assert answer.status_code == 503
    problem: dict[str, Any] = answer.json()
    return problem
