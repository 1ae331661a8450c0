"""A broker whose connections die without a word: nothing closes, nothing answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from orchestrator.cli.stack import Stack, embedded_redis
from orchestrator.clock import now_ms
from orchestrator.ledger import Ledger
from orchestrator.messages import ANSWER_TIMEOUT_SECONDS
from tests.support.providers import EXAMPLE_MODELS
from tests.system.conftest import TIMES, Client, eventually
from tests.system.test_faces import send
from tests.system.wire import Wire


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[tuple[Client, Wire]]:
    """Every process reaches its broker over a wire, and the ledger without."""
    with ExitStack() as closing:
        url = closing.enter_context(embedded_redis(tmp_path / "redis"))
        wire = closing.enter_context(Wire(urlsplit(url).port or 0))
        broker = f"redis://127.0.0.1:{wire.port}/0"
        settings = {**TIMES, "ORCHESTRATOR_BROKER_URL": broker}
        stack = Stack(
            ("web", "worker", "beat", "intake"),
            redis_url=url,
            task_seconds=0.4,
            settings=settings,
            folder=tmp_path,
        )
        yield Client(closing.enter_context(stack)), wire


def test_worker_beat_and_intake_notice_a_silent_broker_and_connect_anew(
    wired: tuple[Client, Wire],
) -> None:
    client, wire = wired
    ledger = Ledger.from_url(client.stack.redis_url or "")
    wire.fall_silent()
    # A sweep that was on its way may still end.
    since = now_ms() + 1000
    eventually(lambda: (ledger.last_sweep() or 0) > since, within=6 * ANSWER_TIMEOUT_SECONDS)
    assert client.outcome(client.enqueue("hiapi", str(uuid4())))["status"] == "succeeded"
    text = str(uuid4())
    send(client, str(uuid4()), provider="hiapi", model=EXAMPLE_MODELS["hiapi"], prompt=text)
    eventually(lambda: client.tasks(text), within=6 * ANSWER_TIMEOUT_SECONDS)
    assert client.stack.dead() is None
