"""Who calls: the owner of an API key.

Keys come from ORCHESTRATOR_API_KEYS, ORCHESTRATOR_ADMIN_KEYS and the ledger.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.runtime import Runtime
from orchestrator.security.api_keys import (
    DEFAULT_SCOPES,
    KEY_CHARACTERS,
    KEY_PREFIX,
    Scope,
    digest,
)
from orchestrator.security.secret import Secret


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of the key of a request. `name` is for logs: never the key itself."""

    name: str
    tenant: str
    scopes: frozenset[Scope]

    @property
    def admin(self) -> bool:
        """Whether the caller may see and do everything."""
        return Scope.ADMIN in self.scopes

    @property
    def writes(self) -> bool:
        """Whether the caller may change jobs."""
        return self.admin or Scope.JOBS_WRITE in self.scopes

    def sees(self, tenant: str) -> bool:
        """Return whether the caller may know the jobs of a tenant."""
        return self.admin or tenant == self.tenant


#: What somebody does whose key is not accepted.
_NEW_KEY = "ask the operator for a new one (orchestrator keys create)"


class KeyRefused(Exception):
    """A key is not accepted. The message is the reason, for the one who sent it.

    Attributes:
        reason: a short form for logs.
        key_id: the id of a known key.
    """

    def __init__(self, message: str, reason: str, key_id: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.key_id = key_id


def identify(runtime: Runtime, key: str) -> Caller:
    """Return the owner of a key.

    Raises:
        KeyRefused: the key is incomplete, unknown, revoked or expired.
        LedgerUnavailable: Redis has been away for too long to know the keys.
    """
    try:
        return identify_digest(runtime, digest(key))
    except KeyRefused as refusal:
        if refusal.key_id is None and key.startswith(KEY_PREFIX) and len(key) != KEY_CHARACTERS:
            message = (
                f"the key is not complete: a key has {KEY_CHARACTERS} characters; copy all of it"
            )
            raise KeyRefused(message, "incomplete key") from None
        raise


def identify_digest(runtime: Runtime, key_digest: str) -> Caller:
    """Return the owner of the key with a digest, as `identify` does."""
    settings = runtime.settings
    if name := _name_of(settings.admin_keys, key_digest):
        return Caller(f"admin:{name}", DEFAULT_TENANT, frozenset({Scope.ADMIN}))
    if name := _name_of(settings.api_keys, key_digest):
        return Caller(name, name, DEFAULT_SCOPES)
    stored = runtime.ledger.access.current().keys.get(key_digest)
    if stored is None:
        raise KeyRefused(f"the key is unknown; check its text, or {_NEW_KEY}", "unknown key")
    if refusal := stored.refusal(runtime.clock()):
        message = f"the key {stored.id} is {refusal}; {_NEW_KEY}"
        raise KeyRefused(message, f"{refusal} key", stored.id)
    return Caller(f"{stored.tenant}/{stored.id}", stored.tenant, stored.scopes)


def _name_of(keys: Mapping[str, Secret], key_digest: str) -> str | None:
    """Return the name of a key. Each is compared in constant time, so time reveals nothing."""
    matches = [
        name
        for name, known in keys.items()
        if hmac.compare_digest(digest(known.reveal()), key_digest)
    ]
    return matches[0] if matches else None
