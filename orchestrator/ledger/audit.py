"""The audit trail: who changed what, newest entries only."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from orchestrator.ledger import keys

#: The trail keeps at least this many of the newest entries.
MAX_ENTRIES = 10_000
#: The form of an entry's id.
ENTRY_ID = re.compile(r"[0-9]{1,15}-[0-9]{1,15}")
#: Entries that a search reads at a time.
WINDOW_ENTRIES = 1000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action: its time (ms), who did it, and to what. `id` sorts by the time."""

    at: int
    actor: str
    action: str
    target: str
    detail: dict[str, str] = field(default_factory=dict)
    id: str = ""


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
        return [_entry(entry_id, dict(fields)) for entry_id, fields in stored]

    def find(
        self, matches: Callable[[AuditEntry], bool], limit: int, *, below: str | None = None
    ) -> tuple[list[AuditEntry], str | None]:
        """Return the newest entries that match, newest first, and where the next page begins.

        Args:
            matches: says whether an entry is wanted.
            limit: the most entries of the page.
            below: the id after which the page begins; None: this is the first page.
        """
        found: list[AuditEntry] = []
        newest = f"({below}" if below else "+"
        with self._redis() as client:
            while True:
                stored: Any = client.xrevrange(keys.AUDIT, max=newest, count=WINDOW_ENTRIES)
                found += filter(matches, (_entry(i, dict(fields)) for i, fields in stored))
                if len(found) > limit:
                    return found[:limit], found[limit - 1].id
                if len(stored) < WINDOW_ENTRIES:
                    return found, None
                newest = f"({stored[-1][0]}"


def _entry(entry_id: str, fields: dict[str, str]) -> AuditEntry:
    at, actor, action, target = (fields.pop(n) for n in ("at", "actor", "action", "target"))
    return AuditEntry(int(at), actor, action, target, fields, entry_id)
