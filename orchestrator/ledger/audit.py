"""The audit trail: who changed what, newest entries only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from orchestrator.ledger import keys

#: The trail keeps at least this many of the newest entries.
MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action: its time (ms), who did it, and to what."""

    at: int
    actor: str
    action: str
    target: str
    detail: dict[str, str] = field(default_factory=dict)


class AuditTrail:
    """Records actions of people and programs on jobs, keys, tenants and providers.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client

    def record(self, *, now: int, actor: str, action: str, target: str, **detail: str) -> None:
        """Add an entry. A call that is repeated may add it twice."""
        facts = {"at": now, "actor": actor, "action": action, "target": target}
        entry: dict[Any, Any] = {**detail, **facts}
        with self._redis() as client:
            client.xadd(keys.AUDIT, entry, maxlen=MAX_ENTRIES, approximate=True)

    def entries(self, limit: int) -> list[AuditEntry]:
        """Return the newest entries, newest first."""
        with self._redis() as client:
            stored: Any = client.xrevrange(keys.AUDIT, count=limit)
        return [_entry(dict(fields)) for _, fields in stored]


def _entry(fields: dict[str, str]) -> AuditEntry:
    at, actor, action, target = (fields.pop(n) for n in ("at", "actor", "action", "target"))
    return AuditEntry(int(at), actor, action, target, fields)
