"""What doctor tries at Redis: a channel, and answers of other processes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

from redis import Redis

from orchestrator.ledger import keys
from orchestrator.ledger.connection import ANSWER_TIMEOUT, listener
from orchestrator.ledger.refusals import LedgerUnavailable

#: How long an answer to a check is kept. ms.
ECHO_TTL_MS = 60_000


class Echoes:
    """Messages of a check that come back.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client

    def check_channel(self) -> None:
        """Publish a message, and receive it.

        Raises:
            LedgerUnavailable: Redis is away, refuses it, or does not deliver the message.
        """
        channel, ends = keys.echo_channel(secrets.token_hex(8)), monotonic() + ANSWER_TIMEOUT
        with self._redis() as client, listener(client) as heard:
            heard.subscribe(channel)
            published = False
            while monotonic() < ends:
                message = heard.get_message(timeout=0.05)
                if message and message["type"] == "message":
                    return
                if message and not published:  # the subscription is confirmed
                    client.publish(channel, "")
                    published = True
        raise LedgerUnavailable(f"a published message did not arrive in {ANSWER_TIMEOUT:g} s")

    def answer(self, token: str) -> None:
        """Record that this process got the message of a check."""
        with self._redis() as client:
            client.set(keys.answered(token), "", px=ECHO_TTL_MS)

    def answered(self, tokens: Sequence[str]) -> set[str]:
        """Return which of these messages were answered by a process."""
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            for token in tokens:
                pipe.exists(keys.answered(token))
            exist: list[Any] = pipe.execute()
        return {token for token, is_there in zip(tokens, exist, strict=True) if is_there}
