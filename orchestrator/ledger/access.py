"""API keys and tenants' settings in the ledger, and a cached view of them for each process.

Every change raises a counter. A process reads the counter at most once per REFRESH_SECONDS, and
reads the keys and settings again only when it has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import Any

import orjson
from redis import Redis

from orchestrator.forks import renew_in_children
from orchestrator.jobs.tenant import Tenant
from orchestrator.ledger import keys
from orchestrator.ledger.connection import ANSWER_TIMEOUT, CONNECT_TIMEOUT
from orchestrator.ledger.refusals import LedgerUnavailable
from orchestrator.ledger.replication import wait_for_replicas
from orchestrator.security.api_keys import ApiKey, Scope
from orchestrator.step_loop import in_thread

#: A process reads the counter of changes at most this often. Seconds.
REFRESH_SECONDS = 1.0
#: A view is used without waiting until it is this old, while another thread reads. Seconds.
FRESH_SECONDS = 3.0
#: While Redis is away, the last view is used for this time. Then calls fail. Seconds.
MAX_AGE_SECONDS = 60.0
#: The longest wait for the first view, which another thread reads. Seconds.
_WAIT_SECONDS = CONNECT_TIMEOUT + ANSWER_TIMEOUT
#: Redis keeps this many keys at most. Each process holds all of them in memory.
MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Access:
    """All keys by their digest, and the tenants with settings, at one moment."""

    version: str | None = None
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    tenants: Mapping[str, Tenant] = field(default_factory=dict)

    def tenant(self, name: str) -> Tenant:
        """Return the settings of a tenant. A tenant without settings has no limits."""
        return self.tenants.get(name) or _without_settings(name)


@lru_cache
def _without_settings(name: str) -> Tenant:
    return Tenant(name)


class _ReadLock:
    """The lock of the thread that reads. The child of a fork makes a new one."""

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        self.lock = threading.Lock()


class AccessBook:
    """Changes and reads the keys and the tenants' settings.

    Args:
        client: returns the client of this thread.
        clock: seconds, for the age of the cached view.
    """

    def __init__(
        self,
        client: Callable[[], AbstractContextManager[Redis]],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._redis = client
        self._clock = clock
        self._view: tuple[Access, float] | None = None
        self._failing = False
        self._read = _ReadLock()

    # Changes -----------------------------------------------------------------------------------

    def add_key(self, key: ApiKey) -> None:
        """Store a new key."""
        scopes = " ".join(sorted(key.scopes))
        facts = {"tenant": key.tenant, "name": key.name, "scopes": scopes, "digest": key.digest}
        stored = {**facts, "created": key.created_at}
        fields = {key.id: orjson.dumps(stored).decode()}
        if key.expires_at is not None:
            fields[f"{key.id} expires"] = str(key.expires_at)
        self._change(keys.API_KEYS, fields)

    def revoke_key(self, key_id: str, *, now: int) -> None:
        """Refuse a key from now (ms) on."""
        self._change(keys.API_KEYS, {f"{key_id} revoked": str(now)})

    def expire_key(self, key_id: str, *, at: int) -> None:
        """Set the time (ms) from which a key is refused."""
        self._change(keys.API_KEYS, {f"{key_id} expires": str(at)})

    def forget_key(self, key_id: str) -> None:
        """Delete a key."""
        names = [key_id, f"{key_id} expires", f"{key_id} revoked"]
        self._change(keys.API_KEYS, dict.fromkeys(names))

    def set_tenant(self, name: str, settings: Mapping[str, str | None]) -> None:
        """Change settings of a tenant, in their stored form. None deletes a setting."""
        fields = {f"{name} {setting}": value for setting, value in settings.items()}
        self._change(keys.TENANT_SETTINGS, fields)

    # Reads -------------------------------------------------------------------------------------

    def read(self) -> Access:
        """Return the keys and settings as they are now."""
        with self._redis() as client, client.pipeline(transaction=True) as pipe:
            pipe.get(keys.ACCESS)
            pipe.hgetall(keys.API_KEYS)
            pipe.hgetall(keys.TENANT_SETTINGS)
            version, stored, settings = pipe.execute()
        listed = (_key(name, stored) for name in stored if " " not in name)
        return Access(version, {key.digest: key for key in listed}, _tenants(settings))

    def current(self) -> Access:
        """Return the cached keys and settings. They are at most a few seconds old.

        In a step loop, other steps run while they are read.

        Raises:
            LedgerUnavailable: Redis has been away for longer than MAX_AGE_SECONDS.
        """
        view, age = self._cached()
        if view is not None and age < REFRESH_SECONDS:
            return view
        return in_thread(self._read_once)

    def _read_once(self) -> Access:
        view, age = self._cached()
        # One thread reads. The others use the last view, unless it is old and Redis answers.
        usable = view is not None and (age < FRESH_SECONDS or self._failing)
        if not self._read.lock.acquire(timeout=0 if usable else _WAIT_SECONDS):
            return self._last(LedgerUnavailable("another call reads the keys"))
        try:
            view, age = self._cached()
            if view is not None and age < REFRESH_SECONDS:
                return view
            return self._refreshed(view)
        finally:
            self._read.lock.release()

    def _refreshed(self, view: Access | None) -> Access:
        try:
            started = self._clock()
            if view is None or self._version() != view.version:
                view = self.read()
        except LedgerUnavailable as error:
            self._failing = True
            return self._last(error)
        self._view, self._failing = (view, started), False
        return view

    def _last(self, problem: LedgerUnavailable) -> Access:
        view, age = self._cached()
        if view is None or age > MAX_AGE_SECONDS:
            raise problem
        return view

    def _cached(self) -> tuple[Access | None, float]:
        view = self._view
        return (view[0], self._clock() - view[1]) if view else (None, 0.0)

    def _version(self) -> str | None:
        with self._redis() as client:
            version: Any = client.get(keys.ACCESS)
        return None if version is None else str(version)

    def _change(self, key: str, fields: Mapping[str, str | None]) -> None:
        written = {name: value for name, value in fields.items() if value is not None}
        deleted = [name for name, value in fields.items() if value is None]
        with self._redis() as client, client.pipeline(transaction=True) as pipe:
            if written:
                pipe.hset(key, mapping=written)  # type: ignore[arg-type]
            if deleted:
                pipe.hdel(key, *deleted)
            pipe.incr(keys.ACCESS)
            pipe.execute()
            wait_for_replicas(client, key)  # a failover must not bring a revoked key back
        self._view = None  # this process sees its own change at once


def _key(key_id: str, stored: Mapping[str, str]) -> ApiKey:
    facts = orjson.loads(stored[key_id])
    expires, revoked = stored.get(f"{key_id} expires"), stored.get(f"{key_id} revoked")
    return ApiKey(
        id=key_id,
        tenant=facts["tenant"],
        name=facts["name"],
        scopes=frozenset(map(Scope, facts["scopes"].split())),
        digest=facts["digest"],
        created_at=facts["created"],
        expires_at=int(expires) if expires else None,
        revoked_at=int(revoked) if revoked else None,
    )


def _tenants(stored: Mapping[str, str]) -> dict[str, Tenant]:
    settings: dict[str, dict[str, str]] = {}
    for name, value in stored.items():
        tenant, _, setting = name.partition(" ")
        settings.setdefault(tenant, {})[setting] = value
    return {name: Tenant.read(name, fields) for name, fields in settings.items()}
