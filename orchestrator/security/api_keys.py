"""API keys: their form, their scopes, and the digest that is stored in their place."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from enum import StrEnum

#: A key is this prefix and random hexadecimal digits.
KEY_PREFIX = "orch_"
#: The random part of a key. Bytes.
KEY_BYTES = 24
#: The length of a complete key. Characters.
KEY_CHARACTERS = len(KEY_PREFIX) + 2 * KEY_BYTES
#: The random part of a key's id. Bytes.
ID_BYTES = 6


class Scope(StrEnum):
    """What a key allows."""

    #: Read the tenant's jobs, lists and figures.
    JOBS_READ = "jobs:read"
    #: Enqueue, cancel, retry and notify.
    JOBS_WRITE = "jobs:write"
    #: Everything, for all tenants.
    ADMIN = "admin"


#: The scopes of a key that names none.
DEFAULT_SCOPES = frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE})


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key. The key itself is known only to its owner. Times are ms."""

    id: str
    tenant: str
    scopes: frozenset[Scope]
    digest: str = field(repr=False)
    created_at: int
    name: str = ""
    expires_at: int | None = None
    revoked_at: int | None = None

    def refusal(self, now: int) -> str | None:
        """Return why the key is not accepted at a time (ms), or None when it is."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return None


def new_key() -> str:
    """Return a new key."""
    return KEY_PREFIX + secrets.token_hex(KEY_BYTES)


def new_id() -> str:
    """Return the id of a new key."""
    return f"key_{secrets.token_hex(ID_BYTES)}"


def digest(key: str) -> str:
    """Return the digest that is stored. A key is random, so a fast hash is enough."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
