"""Enqueue messages of other services that wait, because their tenants have reached a limit.

They wait here and not at the broker. There, each message would be tried by itself, and a tenant
with many of them would delay the messages of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from redis import Redis

from orchestrator.ledger import keys
from orchestrator.ledger.script import load


class WaitingMessages:
    """The messages by flow. A flow has the messages of one tenant for one provider, oldest first.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client
        self._add, self._done = load("waiting_add"), load("waiting_done")

    def add(self, flow: str, message: str, *, now: int, due_at: int) -> None:
        """Keep a message. Its flow is tried first at `due_at`. Times are ms."""
        with self._redis() as client:
            self._add.run(client, _keys(flow), [message, flow, now, due_at])

    def has(self, flow: str) -> bool:
        """Return whether messages of a flow wait."""
        with self._redis() as client:
            return client.zscore(keys.WAITING, flow) is not None

    def due(self, *, now: int, limit: int) -> list[str]:
        """Return flows that are due, the longest due first. `now` is in ms."""
        with self._redis() as client:
            flows: Any = client.zrangebyscore(keys.WAITING, "-inf", now, 0, limit)
        return flows  # type: ignore[no-any-return]  # redis-py types every reply as Any

    def oldest(self, flow: str) -> str | None:
        """Return the oldest message of a flow, if it has one. Each may be several MB."""
        with self._redis() as client:
            messages: Any = client.zrange(keys.waiting(flow), 0, 0)
        return messages[0] if messages else None

    def later(self, flow: str, *, due_at: int) -> None:
        """Try a flow again at a time (ms), if it has messages."""
        with self._redis() as client:
            client.zadd(keys.WAITING, {flow: due_at}, xx=True)

    def done(self, flow: str, message: str) -> None:
        """Forget a message that has its job, or was refused."""
        with self._redis() as client:
            self._done.run(client, _keys(flow), [message, flow])

    def size(self) -> int:
        """Return the number of messages."""
        with self._redis() as client:
            flows: Any = client.zrange(keys.WAITING, 0, -1)
            with client.pipeline(transaction=False) as pipe:
                for flow in flows:
                    pipe.zcard(keys.waiting(flow))
                return sum(pipe.execute()) if flows else 0


def _keys(flow: str) -> list[str]:
    return [keys.waiting(flow), keys.WAITING]
