"""Messages that were verified but could not be read. They are kept for inspection."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from orchestrator.ledger import keys

#: At least this many of the newest messages are kept.
MAX_MESSAGES = 1000
#: The kept start of a body.
MAX_BODY_BYTES = 2048
#: The form of the id of a message: that of an entry of a stream.
MESSAGE_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A rejected message. Its repr leaves out the body, which may hold a prompt.

    Attributes:
        kind: `callback` or `enqueue`.
        at: when it arrived, ms.
        reason: why it was rejected.
        body: the start of its body.
        context: more fields, for example the provider.
    """

    id: str
    kind: str
    at: int
    reason: str
    body: str = field(repr=False)
    context: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether the whole body was kept, as text."""
        is_text = "\N{REPLACEMENT CHARACTER}" not in self.body
        return is_text and len(self.body.encode()) < MAX_BODY_BYTES


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
            "reason": reason.encode("utf-8", "replace").decode(),
            **context,
            "body": text,
        }
        with self._redis() as client:
            client.xadd(keys.REJECTED, entry, maxlen=MAX_MESSAGES, approximate=True)

    def page(self, limit: int, *, before: str | None = None) -> list[RejectedMessage]:
        """Return messages, newest first. `before` is the id of the last one of the page before."""
        if before is not None and not MESSAGE_ID.fullmatch(before):
            return []
        newest = f"({before}" if before else "+"
        with self._redis() as client:
            entries: Any = client.xrevrange(keys.REJECTED, max=newest, count=limit)
        return [_message(each, dict(fields)) for each, fields in entries]

    def get(self, message_id: str) -> RejectedMessage | None:
        """Return a message, or None."""
        if not MESSAGE_ID.fullmatch(message_id):
            return None
        with self._redis() as client:
            entries: Any = client.xrange(keys.REJECTED, min=message_id, max=message_id)
        return _message(message_id, dict(entries[0][1])) if entries else None

    def delete(self, message_id: str) -> bool:
        """Delete a message. Return whether there was one."""
        if not MESSAGE_ID.fullmatch(message_id):
            return False
        with self._redis() as client:
            return bool(client.xdel(keys.REJECTED, message_id))


def _message(message_id: str, fields: dict[str, str]) -> RejectedMessage:
    kind, at, reason, body = (fields.pop(name) for name in ("kind", "at", "reason", "body"))
    return RejectedMessage(message_id, kind, int(at), reason, body, fields)
