"""Makes, lists, rotates and revokes API keys."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from orchestrator.clock import DAY_MS
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation
from orchestrator.ledger import LedgerUnavailable
from orchestrator.ledger.access import MAX_KEYS
from orchestrator.runtime import Runtime
from orchestrator.security.api_keys import ApiKey, Scope, digest, new_id, new_key
from orchestrator.settings.environment import ConfigError

#: The longest name of a key. Characters.
MAX_NAME_CHARACTERS = 100
#: A key that was revoked or has expired is listed for this time. Days.
LISTED_DAYS = 30


class UnknownKey(Exception):
    """There is no key of this id, or it is revoked or expired. The message is the reason."""


def require_keys(runtime: Runtime) -> None:
    """Check that somebody may call the API. While Redis is away, it may have keys.

    Raises:
        ConfigError: there is no API key.
    """
    if runtime.settings.api_keys or runtime.settings.admin_keys:
        return
    with suppress(LedgerUnavailable):
        if not runtime.ledger.access.read().keys:
            raise ConfigError(
                "there is no API key. Set ORCHESTRATOR_API_KEYS to at least one name:key, or make a"
                " key with: orchestrator keys create --tenant NAME"
            )


def create_key(
    runtime: Runtime,
    *,
    actor: str,
    tenant: str,
    scopes: Iterable[str],
    name: str = "",
    expires_in_ms: int | None = None,
) -> tuple[str, ApiKey]:
    """Make a key. Return the key, which is stored nowhere, and its record.

    Raises:
        InvalidRequest: the tenant, a scope or the name is wrong, or there are too many keys.
        LedgerUnavailable: Redis is away.
    """
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        allowed = f"at most {MAX_NAME_CHARACTERS} printable characters"
        raise InvalidRequest(Violation("name", name, allowed))
    if expires_in_ms is not None and expires_in_ms <= 0:
        allowed = "a time span above 0, such as 90d"
        raise InvalidRequest(Violation("expires", expires_in_ms, allowed))
    owner, allowed_scopes = tenant_name(tenant), _scopes(scopes)
    now = runtime.clock()
    known = _forget_old(runtime, now)
    if len(known) >= MAX_KEYS:
        raise InvalidRequest(Violation("keys", len(known), f"at most {MAX_KEYS}; revoke some"))
    key = new_key()
    record = ApiKey(
        id=new_id(),
        tenant=owner,
        scopes=allowed_scopes,
        digest=digest(key),
        created_at=now,
        name=name,
        expires_at=None if expires_in_ms is None else now + expires_in_ms,
    )
    runtime.ledger.access.add_key(record)
    detail = {"tenant": record.tenant, "scopes": ",".join(sorted(record.scopes))}
    runtime.audit(actor, "key_create", record.id, **detail)
    return key, record


def list_keys(runtime: Runtime, tenant: str | None = None) -> list[ApiKey]:
    """Return the keys, oldest first: of one tenant, or all.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    stored = runtime.ledger.access.read().keys.values()
    chosen = [key for key in stored if tenant in (None, key.tenant)]
    return sorted(chosen, key=lambda key: (key.created_at, key.id))


def revoke_key(runtime: Runtime, key_id: str, *, actor: str) -> ApiKey:
    """Refuse a key from now on.

    Raises:
        UnknownKey: there is no such key in use.
        LedgerUnavailable: Redis is away.
    """
    key = _in_use(runtime, key_id)
    runtime.ledger.access.revoke_key(key.id, now=runtime.clock())
    runtime.audit(actor, "key_revoke", key.id, tenant=key.tenant)
    return key


def rotate_key(runtime: Runtime, key_id: str, *, actor: str, overlap_ms: int) -> tuple[str, ApiKey]:
    """Make a key with the same tenant, scopes and name. The old one works for `overlap_ms` more.

    Raises:
        UnknownKey: there is no such key in use.
        LedgerUnavailable: Redis is away.
    """
    old, now = _in_use(runtime, key_id), runtime.clock()
    # The new key lives as long as the old one would have lived from its creation.
    lifetime = old.expires_at - old.created_at if old.expires_at else None
    key, record = create_key(
        runtime,
        actor=actor,
        tenant=old.tenant,
        scopes=old.scopes,
        name=old.name,
        expires_in_ms=lifetime,
    )
    ends_at = min(now + overlap_ms, old.expires_at or now + overlap_ms)
    runtime.ledger.access.expire_key(old.id, at=ends_at)
    runtime.audit(actor, "key_rotate", old.id, tenant=old.tenant, new_key=record.id)
    return key, record


def _in_use(runtime: Runtime, key_id: str) -> ApiKey:
    known = {key.id: key for key in runtime.ledger.access.read().keys.values()}
    key = known.get(key_id)
    if key is None:
        raise UnknownKey(f"there is no key {key_id[:40]!r}; see: orchestrator keys list")
    if reason := key.refusal(runtime.clock()):
        raise UnknownKey(f"the key {key_id} is {reason} already; see: orchestrator keys list")
    return key


def _scopes(names: Iterable[str]) -> frozenset[Scope]:
    allowed = [scope.value for scope in Scope]
    scopes = [name.strip() for name in names]
    for name in scopes:
        if name not in allowed:
            raise InvalidRequest(Violation("scopes", name, OneOfNames(allowed)))
    if not scopes:
        raise InvalidRequest(Violation("scopes", "", OneOfNames(allowed)))
    return frozenset(map(Scope, scopes))


def _forget_old(runtime: Runtime, now: int) -> list[ApiKey]:
    """Delete the records of keys that ended long ago, and return the others."""
    kept, oldest = [], now - LISTED_DAYS * DAY_MS
    for key in runtime.ledger.access.read().keys.values():
        if min(key.revoked_at or now, key.expires_at or now) < oldest:
            runtime.ledger.access.forget_key(key.id)
        else:
            kept.append(key)
    return kept
