"""Messages that were verified but could not be read. They are kept for inspection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from redis import Redis

from orchestrator.ledger import keys

#: At least this many of the newest messages are kept.
MAX_MESSAGES = 1000
#: The kept start of a body.
MAX_BODY_BYTES = 2048


class RejectedMessages:
    """The newest rejected messages.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client

    def keep(self, kind: str, *, now: int, reason: str, body: bytes, **context: str) -> None:
        """Keep a message. A call that is repeated may keep it twice.

        Args:
            kind: `callback` or `enqueue`.
            now: ms.
            reason: why it was rejected.
            body: only its start is kept.
            context: more fields of the entry, for example the provider.
        """
        text = body[:MAX_BODY_BYTES].decode("utf-8", "replace")
        entry: dict[Any, Any] = {
            "kind": kind,
            "at": now,
            "reason": reason,
            **context,
            "body": text,
        }
        with self._redis() as client:
            client.xadd(keys.REJECTED, entry, maxlen=MAX_MESSAGES, approximate=True)

    def newest(self, limit: int = 20) -> list[dict[str, str]]:
        """Return the newest messages, newest first."""
        with self._redis() as client:
            entries: Any = client.xrevrange(keys.REJECTED, count=limit)
        return [fields for _, fields in entries]
