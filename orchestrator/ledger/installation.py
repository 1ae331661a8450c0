"""The installation as a whole: its server, its shape, and its last sweep.

Its shape is its number of shards, which never changes, and the newest format of its jobs. A process
that does not fit does not start. One that runs already begins no work any more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

from redis import Redis, RedisCluster
from redis.exceptions import ResponseError

from orchestrator.ledger import keys
from orchestrator.ledger.refusals import (
    FORMAT,
    LedgerMismatch,
    LedgerUnavailable,
    newer_format,
)
from orchestrator.ledger.replication import wait_for_replicas
from orchestrator.ledger.script import load

#: How long the value of a write check is kept.
WRITE_CHECK_TTL_MS = 60_000
#: How long an examination is kept after its last result. ms.
EXAMINATION_TTL_MS = 60_000
#: Without a finished sweep for this long, no worker or no beat runs. Seconds.
SWEEP_STALE_SECONDS = 60


class Installation:
    """Facts that all processes of an installation share.

    Args:
        client: returns the client of this thread.
        shards: the number of shards in the settings of this process.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]], shards: int) -> None:
        self._redis = client
        self._shards = shards
        self._join = load("join")
        #: Why this process must not begin any work; None: it fits the ledger.
        self.mismatch: LedgerMismatch | None = None
        #: Whether the process was compared with the ledger.
        self.is_compared = False

    def join(self, process: str = "", facts: str = "") -> None:
        """Become a process of the installation. The first one says how many shards it has.

        Args:
            process: the name of the process, to record that it lives; empty: only join.
            facts: what is recorded of it.

        Raises:
            LedgerMismatch: this process does not fit the ledger.
        """
        script_keys = [keys.SHARDS, keys.FORMAT, keys.PROCESSES]
        with self._redis() as client:
            answer = self._join.run(client, script_keys, [self._shards, FORMAT, process, facts])
        self._compare(*answer)

    def check(self) -> None:
        """Check that this process fits the ledger. It changes nothing.

        Raises:
            LedgerMismatch: it does not.
        """
        with self._redis() as client:
            stored: Any = client.mget(keys.SHARDS, keys.FORMAT)
        shards, format_ = stored
        self._compare(shards or str(self._shards), format_ or "0")

    def _compare(self, shards: str, format_: str) -> None:
        self.mismatch, self.is_compared = None, True
        if int(format_) > FORMAT:
            self.mismatch = newer_format(format_)
        elif int(shards) != self._shards:
            number, fix = self._shards, f"set ORCHESTRATOR_SHARDS={shards}"
            self.mismatch = LedgerMismatch(
                f"the ledger was made with ORCHESTRATOR_SHARDS={shards}, not with {number}; {fix}"
            )
        if self.mismatch:
            raise self.mismatch

    def mark_sweep(self, *, now: int, host: str) -> None:
        """Record a finished sweep."""
        with self._redis() as client:
            client.hset(keys.SWEEP, mapping={"at": now, "host": host})

    def last_sweep(self) -> int | None:
        """Return the end of the last sweep (ms), or None."""
        with self._redis() as client:
            at: Any = client.hget(keys.SWEEP, "at")
        return int(at) if at else None

    def check_write(self) -> None:
        """Write a value that nobody reads. A replica and a full Redis refuse it.

        Raises:
            LedgerUnavailable: Redis is away or refuses to write.
        """
        _check_write(self._redis)

    def begin_examination(self, text: str) -> bool:
        """Store the text of a new examination, unless another one runs or is still kept."""
        with self._redis() as client:
            begun = client.set(keys.EXAMINATION, text, nx=True, px=EXAMINATION_TTL_MS)
        return bool(begun)

    def record_examination(self, text: str) -> None:
        """Replace the text of the examination."""
        with self._redis() as client:
            client.set(keys.EXAMINATION, text, px=EXAMINATION_TTL_MS)

    def examination(self) -> str | None:
        """Return the text of the examination, or None."""
        with self._redis() as client:
            text: Any = client.get(keys.EXAMINATION)
        return None if text is None else str(text)

    def time(self) -> int:
        """Return the time of Redis. ms."""
        with self._redis() as client:
            seconds, microseconds = client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def server(self) -> dict[str, Any]:
        """Return INFO of Redis, its time as `now_ms`, and `appendfsync` if it is readable."""
        with self._redis() as client:
            info: Any = client.info()
            try:
                config: Any = client.config_get("appendfsync")
            except ResponseError:  # managed services forbid CONFIG
                config = {}
        return {**info, **config, "now_ms": self.time()}

    def servers(self) -> dict[str, dict[str, Any]]:
        """Return INFO of each master of a cluster by its address, or of the one server by ""."""
        with self._redis() as redis:
            client: Redis | RedisCluster = redis
            if not isinstance(client, RedisCluster):
                return {"": self.server()}
            nodes = [node.name for node in client.get_primaries()]
            infos: Any = client.info(target_nodes=RedisCluster.PRIMARIES)
            configs: Any = {}
            with suppress(ResponseError):  # managed services forbid CONFIG
                configs = client.config_get("appendfsync", target_nodes=RedisCluster.PRIMARIES)
        return {name: {**infos[name], **configs.get(name, {})} for name in nodes}


def from_master(
    client: Callable[[], AbstractContextManager[Redis]], read: Callable[[Redis], Any]
) -> Any:
    """Return what `read` finds. Before it returns an empty answer, it asks the master.

    After a failover, an open connection may still lead to the old master, which is a replica now
    and lacks what is new. A write is refused there, and the next connection leads to the new one.

    Raises:
        LedgerUnavailable: Redis is away, or it is a replica also after connecting anew.
    """
    with client() as redis:
        found = read(redis)
    if found:
        return found
    try:
        _check_write(client)
    except LedgerUnavailable as refused:
        if refused.code == "READONLY":
            _check_write(client)
    with client() as redis:
        return read(redis)


def _check_write(client: Callable[[], AbstractContextManager[Redis]]) -> None:
    with client() as redis:
        redis.set(keys.WRITE_CHECK, "", px=WRITE_CHECK_TTL_MS)
        wait_for_replicas(redis, keys.WRITE_CHECK)
