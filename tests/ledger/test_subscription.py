"""One connection that listens to any number of channels, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue
from time import sleep
from typing import Any

import pytest
from redis import Redis

from orchestrator.ledger import Ledger, keys
from orchestrator.ledger.subscription import Subscription
from tests.ledger import kit
from tests.ledger.kit import NOW, SUCCESS, WAIT_SECONDS

pytestmark = pytest.mark.one_server


@pytest.fixture
def changed() -> Queue[str]:
    return Queue()


@pytest.fixture
def subscription(shared_ledger: Ledger, changed: Queue[str]) -> Iterator[Subscription]:
    made = shared_ledger.outcomes.subscription(changed.put)
    yield made
    made.close()


def listeners(redis: Redis) -> list[Any]:
    clients: list[Any] = redis.client_list(_type="pubsub")
    return clients


def test_the_begin_and_each_message_are_reported(
    shared_ledger: Ledger, subscription: Subscription, changed: Queue[str]
) -> None:
    job_id = kit.running(shared_ledger)
    channel = keys.settled(job_id)

    subscription.add(channel)
    assert changed.get(timeout=WAIT_SECONDS) == channel, "it listens"
    shared_ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)
    assert changed.get(timeout=WAIT_SECONDS) == channel, "a message"


def test_all_channels_share_a_connection_that_is_closed_after_the_last(
    real_redis: Redis, subscription: Subscription, changed: Queue[str]
) -> None:
    for name in ("a", "b", "b"):
        subscription.add(name)
    assert {changed.get(timeout=WAIT_SECONDS) for _ in range(2)} == {"a", "b"}
    assert len(listeners(real_redis)) == 1

    subscription.remove("b")
    subscription.remove("a")
    kit.eventually(lambda: real_redis.pubsub_channels() == ["b"])
    subscription.remove("b")
    kit.eventually(lambda: not listeners(real_redis))


def test_a_broken_connection_is_replaced_and_the_begin_is_reported_again(
    real_redis: Redis, subscription: Subscription, changed: Queue[str]
) -> None:
    subscription.add("a")
    assert changed.get(timeout=WAIT_SECONDS) == "a"

    [client] = listeners(real_redis)
    real_redis.client_kill_filter(_id=client["id"])

    assert changed.get(timeout=WAIT_SECONDS) == "a"


class Silent:
    """A connection that looks alive and brings nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""

    def subscribe(self, *_: str) -> None:
        """Send what nobody reads."""

    ping = subscribe

    def get_message(self, **_: float) -> None:
        sleep(0.001)


def test_a_connection_that_brings_nothing_is_replaced(
    subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Silent] = []

    def listen(_: Redis) -> Silent:
        opened.append(Silent())
        return opened[-1]

    monkeypatch.setattr("orchestrator.ledger.subscription.listener", listen)
    monkeypatch.setattr("orchestrator.ledger.subscription.DEAD_SECONDS", 0.01)
    monkeypatch.setattr("orchestrator.ledger.subscription.RETRY_SECONDS", 0.01)

    subscription.add("a")

    kit.eventually(lambda: len(opened) > 1)


def test_a_server_that_refuses_connections_is_tried_again(changed: Queue[str]) -> None:
    ledger = Ledger.from_url("redis://127.0.0.1:1/0")
    subscription = ledger.outcomes.subscription(changed.put)
    subscription.add("a")
    subscription.close()
    assert changed.empty()
