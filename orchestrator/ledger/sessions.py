"""Sessions of the dashboard, and how often an address failed to sign in.

Redis holds digests of the tokens, never the tokens. So who reads Redis cannot take a session over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis import Redis

from orchestrator.ledger import keys

#: An address may fail this often within FAILURES_MS.
MAX_FAILURES = 20
#: Failures are forgotten this long after the last one. ms.
FAILURES_MS = 300_000
#: The most sessions of one key or one link. Otherwise, whoever has a link could fill Redis.
MAX_SESSIONS = 100


@dataclass(frozen=True, slots=True)
class Version:
    """Two texts. Each differs after any change.

    Attributes:
        people: of a key or a tenant, by a person, and of the rejected messages.
        jobs: of a job.
    """

    people: str
    jobs: str


class Sessions:
    """The sessions of all processes.

    Args:
        client: returns the client of this thread.
        shards: the number of shards.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]], shards: int) -> None:
        self._redis = client
        self._shards = range(shards)

    def start(self, token: str, facts: Mapping[str, str], *, owner: str, lifetime_ms: int) -> None:
        """Store a session, and end the oldest ones of an owner that has more than MAX_SESSIONS.

        Args:
            token: of the session.
            facts: whose it is.
            owner: the key or the link that starts it.
            lifetime_ms: the session ends after this time. It is the same for each owner, or shorter
                than that of the earlier sessions.
        """
        key, fields = _key("session", token), dict[Any, Any](facts)
        newest = keys.sign_ins(keys.digest("owner", owner))
        with self._redis() as client, client.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping=fields)
            pipe.pexpire(key, lifetime_ms)
            pipe.lpush(newest, key)
            pipe.pexpire(newest, lifetime_ms)
            pipe.lrange(newest, MAX_SESSIONS, -1)
            pipe.ltrim(newest, 0, MAX_SESSIONS - 1)
            surplus: Any = pipe.execute()[-2]
            if surplus:
                client.delete(*surplus)

    def find(self, token: str) -> dict[str, str] | None:
        """Return the facts of a session, or None after its end."""
        with self._redis() as client:
            facts: Any = client.hgetall(_key("session", token))
        return dict(facts) or None

    def find_with_version(self, token: str) -> tuple[dict[str, str] | None, Version]:
        """Return what `find` does, and the version of what pages show, in one round trip."""
        streams = (keys.AUDIT, keys.REJECTED, *map(keys.changes, self._shards))
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            pipe.hgetall(_key("session", token))
            pipe.get(keys.ACCESS)
            for stream in streams:
                pipe.xrevrange(stream, count=1)
            facts, access, *newest = pipe.execute()
        audit, rejected, *jobs = (str(entries[0][0]) if entries else "-" for entries in newest)
        return dict(facts) or None, Version(f"{access} {audit} {rejected}", " ".join(jobs))

    def end(self, token: str) -> None:
        """End a session."""
        with self._redis() as client:
            client.delete(_key("session", token))

    def set_notice(self, token: str, text: str) -> None:
        """Keep a text for the next page of a session. A session that has ended stays ended."""
        key = _key("session", token)
        with self._redis() as client:
            if client.exists(key):
                client.hset(key, "notice", text)

    def take_notice(self, token: str) -> str | None:
        """Return the text for the next page, once."""
        key = _key("session", token)
        with self._redis() as client, client.pipeline(transaction=True) as pipe:
            pipe.hget(key, "notice")
            pipe.hdel(key, "notice")
            text, _ = pipe.execute()
        return None if text is None else str(text)

    def may_try(self, address: str) -> bool:
        """Return whether an address may try to sign in."""
        with self._redis() as client:
            failures: Any = client.hget(_key("address", address), "failures")
        return int(failures or 0) < MAX_FAILURES

    def failed(self, address: str) -> None:
        """Count a failed sign-in."""
        key = _key("address", address)
        with self._redis() as client, client.pipeline(transaction=True) as pipe:
            pipe.hincrby(key, "failures", 1)
            pipe.pexpire(key, FAILURES_MS)
            pipe.execute()


def _key(kind: str, text: str) -> str:
    return keys.sign_in(keys.digest(kind, text))
