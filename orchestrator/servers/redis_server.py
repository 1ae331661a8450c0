"""The address of a Redis: what its URL means, for the ledger and for the broker."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote

from orchestrator.servers.tls import TLS_OPTIONS, Tls
from orchestrator.servers.url_parts import (
    BadServerUrl,
    credentials,
    flag,
    hosts,
    plain,
    read_options,
    seconds,
    split,
    whole,
)

#: The schemes of a Redis URL. An s at the end is TLS.
SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels")
_TLS_SCHEMES = ("rediss", "sentinels")
_SENTINEL_SCHEMES = ("sentinel", "sentinels")
REDIS_PORT, SENTINEL_PORT = 6379, 26379
#: A Sentinel that does not answer in this time is passed over. Seconds.
SENTINEL_TIMEOUT_SECONDS = 1.0
#: Redis has 16 databases unless its configuration says otherwise. This is the highest number.
MAX_DATABASE = 99_999

_SOCKET = "a URL with the path of a socket, such as unix:///run/redis.sock"
_read_database = whole(0, MAX_DATABASE)
#: Options of the connection. kombu has all but `protocol`, which means the same to it.
_CLIENT_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "client_name": plain,
    "health_check_interval": whole(0, 3600),
    "protocol": whole(2, 3),
    "socket_connect_timeout": seconds(0.1, 60),
    "socket_keepalive": flag,
    "socket_timeout": seconds(0.1, 60),
}
#: Time-outs of TCP. A Unix socket has none of them.
_TCP_OPTIONS = ("socket_connect_timeout", "socket_keepalive")
_SENTINEL_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "master_name": plain,
    "sentinel_username": plain,
    "sentinel_password": plain,
}


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where a Redis is and how to connect.

    Attributes:
        hosts: of the server, of the nodes of a cluster, or of the Sentinels. Empty for a socket.
        path: of the Unix socket, or empty.
        database: its number.
        username, password: for Redis. None is the default user, and no password.
        tls: None for a connection without TLS.
        master_name: what the Sentinels call the master. Empty without Sentinel.
        sentinel_username, sentinel_password: for the Sentinels.
        options: of the client, by redis-py's and kombu's common names. Times are in seconds.
        is_cluster: the hosts are nodes of a Redis Cluster.
        wait_replicas: the replicas that must have each write of a script.
    """

    hosts: tuple[tuple[str, int], ...]
    path: str
    database: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    tls: Tls | None
    master_name: str
    sentinel_username: str | None = field(repr=False)
    sentinel_password: str | None = field(repr=False)
    options: Mapping[str, Any]
    is_cluster: bool
    wait_replicas: int

    @classmethod
    def parse(cls, url: str, *, is_cluster: bool = False, wait_replicas: int = 0) -> RedisServer:
        """Read a URL. See docs/redis.md for its forms.

        Args:
            url: of a server, of Sentinels, or of a node of a cluster.
            is_cluster: the server is a node of a Redis Cluster.
            wait_replicas: the replicas that must have each write of a script.

        Raises:
            BadServerUrl: the URL is wrong, or a library cannot do what it says.
        """
        parts = split(_one_scheme(url), SCHEMES)
        given = _options(parts)
        username, password = credentials(parts)
        is_sentinel = parts.scheme in _SENTINEL_SCHEMES
        if parts.scheme == "unix" and parts.netloc.rpartition("@")[2]:
            raise BadServerUrl(_SOCKET)
        server = cls(
            hosts=() if parts.scheme == "unix" else _hosts(parts),
            path=unquote(parts.path) if parts.scheme == "unix" else "",
            database=_database(parts, given),
            username=username,
            password=password,
            tls=Tls.from_options(given) if parts.scheme in _TLS_SCHEMES else None,
            master_name=given.pop("master_name", ""),
            sentinel_username=given.pop("sentinel_username", None),
            sentinel_password=given.pop("sentinel_password", None),
            options=given,
            is_cluster=is_cluster,
            wait_replicas=wait_replicas,
        )
        server._check(is_sentinel=is_sentinel)
        return server

    def for_redis_py(self) -> dict[str, Any]:
        """Return the options of redis-py for the server, but its address."""
        access = {"username": self.username, "password": self.password, "db": self.database}
        return {**access, **self._encryption(), **self.options}

    def for_sentinels(self) -> dict[str, Any]:
        """Return the options of redis-py for the Sentinels. kombu takes the same ones."""
        return {
            "socket_connect_timeout": SENTINEL_TIMEOUT_SECONDS,
            "socket_timeout": SENTINEL_TIMEOUT_SECONDS,
            # By default, redis-py asks each Sentinel four times, with pauses.
            "retry": None,
            "username": self.sentinel_username,
            "password": self.sentinel_password,
            **self._encryption(),
        }

    def _encryption(self) -> dict[str, Any]:
        return {"ssl": True, **self.tls.for_redis()} if self.tls else {}

    def _check(self, *, is_sentinel: bool) -> None:
        if not self.hosts and not self.path.strip("/"):
            raise BadServerUrl(_SOCKET)
        if is_sentinel and not self.master_name:
            raise BadServerUrl("a URL with ?master_name=, the name of the master at the Sentinels")
        if self.username and not self.password:
            raise BadServerUrl("a URL with a password for its user: redis://user:password@host")
        if self.is_cluster and (is_sentinel or self.path):
            raise BadServerUrl("a redis:// or rediss:// URL of a node of the cluster")
        if self.is_cluster and self.database:
            raise BadServerUrl("a URL with database 0, the only one of a cluster")
        if len(self.hosts) > 1 and not (is_sentinel or self.is_cluster):
            raise BadServerUrl("a URL with one host; only Sentinels and clusters have several")


def _one_scheme(url: str) -> str:
    """Return a list of Sentinels in kombu's form, `sentinel://a/1;sentinel://b/1`, in ours."""
    scheme, _, rest = url.partition("://")
    places, mark, query = rest.partition("?")
    each = re.split(f";{re.escape(scheme)}://", places, flags=re.IGNORECASE)
    if scheme.lower() not in _SENTINEL_SCHEMES or len(each) == 1:
        return url
    users, hosts_and_ports, databases = set(), [], set()
    for place in each:
        user, at, address = place.rpartition("@")
        host, _, database = address.partition("/")
        users.add(f"{user}{at}")
        hosts_and_ports.append(host)
        databases.add(database)
    if len(users - {""}) > 1 or len(databases - {""}) > 1:
        raise BadServerUrl("a URL with one user, one password and one database for all Sentinels")
    return f"{scheme}://{max(users)}{','.join(hosts_and_ports)}/{max(databases)}{mark}{query}"


def _hosts(parts: SplitResult) -> tuple[tuple[str, int], ...]:
    return hosts(parts, SENTINEL_PORT if parts.scheme in _SENTINEL_SCHEMES else REDIS_PORT)


def _options(parts: SplitResult) -> dict[str, Any]:
    known = {"db": _read_database, **_CLIENT_OPTIONS}
    if parts.scheme in _TLS_SCHEMES:
        known |= TLS_OPTIONS
    if parts.scheme in _SENTINEL_SCHEMES:
        known |= _SENTINEL_OPTIONS
    if parts.scheme == "unix":
        known = {name: read for name, read in known.items() if name not in _TCP_OPTIONS}
    return read_options(parts, known)


def _database(parts: SplitResult, given: dict[str, Any]) -> int:
    """Return the number of the database: from the path, or from the option db."""
    path = "" if parts.scheme == "unix" else parts.path.strip("/")
    chosen: int | None = given.pop("db", None)
    if not path:
        return chosen or 0
    try:
        number = _read_database(path)
    except BadServerUrl as error:
        raise BadServerUrl(f"a URL whose path is the number of a database, {error}") from None
    if chosen not in (None, number):
        raise BadServerUrl("a URL with one database: as its path, or as db=")
    return number
