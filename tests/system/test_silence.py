"""A network that fails: the broker's connections die silently, and no callback can arrive."""

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


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Wire]]:
    """A stack without a public URL. Its broker, and not its ledger, is behind a wire."""
    home: Path = tmp_path_factory.mktemp("wired")
    with ExitStack() as closing:
        url = closing.enter_context(embedded_redis(home / "redis"))
        wire = closing.enter_context(Wire(urlsplit(url).port or 0))
        broker = f"redis://127.0.0.1:{wire.port}/0"
        settings = {
            **TIMES,
            "ORCHESTRATOR_BROKER_URL": broker,
            "ORCHESTRATOR_PUBLIC_URL": "",
        }
        stack = Stack(
            ("web", "worker", "beat", "intake"),
            redis_url=url,
            task_seconds=0.4,
            settings=settings,
            folder=home,
        )
        yield Client(closing.enter_context(stack)), wire


def test_without_a_public_url_every_job_is_polled(wired: tuple[Client, Wire]) -> None:
    client, text = wired[0], str(uuid4())
    jobs = [client.enqueue(provider, text) for provider in ("hiapi", "evolink")]
    assert {client.outcome(job)["settled_by"] for job in jobs} == {"poll"}
    assert {task["callback_url"] for task in client.tasks(text)} == {None}


def test_worker_beat_and_intake_notice_a_silent_broker_and_connect_anew(
    wired: tuple[Client, Wire],
) -> None:
    client, wire = wired
    ledger = Ledger.from_url(client.stack.redis_url or "")
    wire.fall_silent()
    # A sweep that was on its way may still end.
    since = now_ms() + 1000
    eventually(
        lambda: (ledger.installation.last_sweep() or 0) > since, within=6 * ANSWER_TIMEOUT_SECONDS
    )
    assert client.outcome(client.enqueue("hiapi", str(uuid4())))["status"] == "succeeded"
    text = str(uuid4())
    send(client, str(uuid4()), provider="hiapi", model=EXAMPLE_MODELS["hiapi"], prompt=text)
    eventually(lambda: client.tasks(text), within=6 * ANSWER_TIMEOUT_SECONDS)
    assert client.stack.dead() is None
