"""Connections to Redis: a client per thread, and one error for every failure of Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from time import monotonic
from typing import Any

from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import Connection
from redis.exceptions import (
    ClusterError,
    InvalidResponse,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from orchestrator.forks import renew_in_children
from orchestrator.ledger.refusals import LedgerUnavailable, meaning
from orchestrator.ledger.replication import replicas_of
from orchestrator.servers.redis_server import RedisServer

#: Redis counts as away when it takes longer to connect, or to answer. Seconds.
CONNECT_TIMEOUT = 1.0
ANSWER_TIMEOUT = 2.0
#: After a time-out, other calls fail at once for this time.
PAUSE_SECONDS = 0.5


#: Errors that mean that Redis is away, or that may mean it.
_ERRORS: tuple[type[RedisError | RedisClusterException], ...] = (
    RedisConnectionError,
    RedisClusterException,
    ClusterError,
    InvalidResponse,
    ResponseError,
)


class TimeoutGate:
    """Makes calls fail at once while Redis does not answer. Only one call at a time waits for it.

    Otherwise every call would block its thread for the whole time-out, and a web process could take
    only a few callbacks per second. A Redis that refuses connections fails at once by itself.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        #: When the next call may try Redis. None while Redis answers.
        self._try_at: float | None = None
        self._trying: int | None = None
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Ask for permission to call Redis.

        Raises:
            LedgerUnavailable: the last call timed out, and this thread may not try now.
        """
        if self._try_at is None:
            return
        with self._lock:
            now, thread = self._clock(), threading.get_ident()
            if self._try_at is None or self._trying == thread:
                return
            if now < self._try_at:
                raise LedgerUnavailable("the last call timed out")
            self._try_at = now + CONNECT_TIMEOUT + ANSWER_TIMEOUT
            self._trying = thread

    @property
    def is_closed(self) -> bool:
        """Whether the last call timed out, and none was answered since."""
        return self._try_at is not None

    def answered(self) -> None:
        """Record a call that was answered, also with an error."""
        if self._try_at is not None:
            with self._lock:
                self._try_at = self._trying = None

    def timed_out(self) -> None:
        """Record a call that timed out."""
        with self._lock:
            self._try_at, self._trying = self._clock() + PAUSE_SECONDS, None


class OpenConnection:
    """A connection that no client uses. It is closed at the latest when nobody refers to it.

    Attributes:
        socket: sends and receives. Its time limit is set.
        generation: of `Clients`. The connection is used only as long as it is the present one.
    """

    def __init__(self, connection: Connection, opened: socket, generation: int) -> None:
        self.socket, self.generation = opened, generation
        self._connection = connection

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    __del__ = close


class Clients:
    """One client per thread. So calls need no lock of a connection pool.

    Args:
        make: makes a client for the calling thread.
    """

    def __init__(self, make: Callable[[], Redis]) -> None:
        self._make = make
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Forget the clients, without closing them. A child of a fork shares their connections."""
        self._local = threading.local()
        self._generation = 0
        self._gate = TimeoutGate()

    @property
    def is_silent(self) -> bool:
        """Whether the last call timed out, and none was answered since."""
        return self._gate.is_closed

    @contextmanager
    def client(self) -> Iterator[Redis]:
        """Yield the client of this thread.

        Raises:
            LedgerUnavailable: Redis is away. This replaces the errors of redis-py.
        """
        self._gate.enter()
        leave = self._gate.answered
        try:
            self._connect()
            yield self._local.client
        except LedgerUnavailable:  # an inner call, which already recorded its result
            leave = _no_op
            raise
        except RedisTimeoutError as error:
            leave = self._gate.timed_out
            raise LedgerUnavailable(str(error)) from error
        except _ERRORS as error:
            refusal = meaning(error)
            if refusal is None:
                raise
            if isinstance(error.__cause__, RedisTimeoutError):  # no node of the cluster answers
                leave = self._gate.timed_out
            self._drop()
            raise refusal from error
        finally:
            leave()

    @property
    def generation(self) -> int:
        """Goes up when the connections of all threads may lead to an old master."""
        return self._generation

    def open_connection(self) -> OpenConnection | None:
        """Open a connection that no client uses, or return None.

        None: the Redis is a cluster or has replicas to wait for, or it is a fake without a socket.

        Raises:
            RedisError: it cannot be opened now. The open ones stay: Redis may have too many.
        """
        generation = self._generation
        return _open_connection(self._make(), generation)

    def timed_out(self) -> LedgerUnavailable:
        """Record that Redis did not answer an open connection. Return the error of the call."""
        self._gate.timed_out()
        return LedgerUnavailable("Redis does not answer")

    def _connect(self) -> None:
        """Make the client of this thread, or let it connect anew after a refusal."""
        if not hasattr(self._local, "client"):
            self._local.client = self._make()
        elif self._local.generation != self._generation:
            _reconnect(self._local.client)
        self._local.generation = self._generation

    def _drop(self) -> None:
        """Let all threads connect anew. This may lead to another server: the master of a failover.

        Each thread closes its own connections: this one now, and the others at their next call.
        """
        self._generation += 1
        if hasattr(self._local, "client"):
            _disconnect(self._local.client)


def _open_connection(client: Redis | RedisCluster, generation: int) -> OpenConnection | None:
    if isinstance(client, RedisCluster) or replicas_of(client):
        return None
    pool = client.connection_pool
    connection = pool.connection_class(**pool.connection_kwargs)
    connection.connect()
    opened = connection._get_socket()
    return OpenConnection(connection, opened, generation) if isinstance(opened, socket) else None


def _no_op() -> None:
    pass


def listener(client: Redis) -> Any:
    """Return a connection that listens to channels."""
    return client.pubsub()


def connect(server: RedisServer) -> Redis:
    """Return a client of a Redis. It repeats a call once if the connection broke.

    A client of a cluster is a RedisCluster. It connects at once, and it has the same methods.
    """
    client = _client(server)
    client.wait_replicas = server.wait_replicas
    return client  # type: ignore[no-any-return]


def _client(server: RedisServer) -> Any:
    options = {
        "decode_responses": True,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": ANSWER_TIMEOUT,
        # Not after a time-out, because that would double the wait.
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        **server.for_redis_py(),
    }
    if server.is_cluster:
        return _connect_cluster(server, options)
    if server.master_name:
        sentinel = Sentinel(server.hosts, sentinel_kwargs=server.for_sentinels(), **options)
        return sentinel.master_for(server.master_name, redis_class=Redis)
    if server.path:
        place: dict[str, Any] = {"unix_socket_path": server.path}
    else:
        place = dict(zip(("host", "port"), server.hosts[0], strict=True))
    return Redis(**place, **options, single_connection_client=True)


def _connect_cluster(server: RedisServer, options: dict[str, Any]) -> RedisCluster:
    nodes = [ClusterNode(host, port) for host, port in server.hosts]
    del options["db"]
    return RedisCluster(startup_nodes=nodes, **options)


def _disconnect(client: Redis | RedisCluster) -> None:
    """Close the connections of a client. The next call makes new ones."""
    if isinstance(client, RedisCluster):
        client.disconnect_connection_pools()
    else:
        client.connection_pool.disconnect()


def _reconnect(client: Redis | RedisCluster) -> None:
    """Close the connections of a client. A client of a cluster reads which node has which keys."""
    _disconnect(client)
    if isinstance(client, RedisCluster):
        client.nodes_manager.initialize()
