"""The address of Celery's broker, as kombu's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlencode

from orchestrator.servers.redis_server import SCHEMES as REDIS_SCHEMES
from orchestrator.servers.redis_server import RedisServer
from orchestrator.servers.tls import TLS_OPTIONS, Tls
from orchestrator.servers.url_parts import (
    BadServerUrl,
    credentials,
    hosts,
    read_options,
    split,
    whole,
)

_AMQP_SCHEMES = ("amqp", "amqps")
SCHEMES = (*REDIS_SCHEMES, *_AMQP_SCHEMES)
#: The ports of RabbitMQ, without TLS and with TLS.
_AMQP_PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True)
class BrokerServer:
    """How kombu connects to the broker.

    Attributes:
        url: as kombu reads it.
        hosts: of the broker or of the Sentinels. Empty for a Unix socket.
        tls: None for a connection without TLS.
        ssl: the same, as kombu's option `ssl`: False without TLS.
        transport_options: kombu's options of the connection.
    """

    url: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...]
    tls: Tls | None
    ssl: Mapping[str, Any] | bool
    transport_options: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> BrokerServer:
        """Read the URL of a Redis, of Sentinels or of RabbitMQ. See docs/redis.md for its forms.

        Raises:
            BadServerUrl: the URL is wrong, or kombu cannot do what it says.
        """
        url = _as_redis(url)
        scheme = url.partition("://")[0].lower()
        if scheme in REDIS_SCHEMES:
            return _of_redis(RedisServer.parse(url))
        return _of_rabbitmq(url)


def _as_redis(url: str) -> str:
    """Return kombu's form of a socket, `redis+socket:///path?virtual_host=1`, as `unix://`."""
    if not url.startswith("redis+socket://"):
        return url
    place, mark, query = url.removeprefix("redis+socket://").partition("?")
    return f"unix://{place}{mark}{query.replace('virtual_host=', 'db=')}"


def _of_redis(server: RedisServer) -> BrokerServer:
    options = {name: value for name, value in server.options.items() if name != "protocol"}
    user = _user(server.username, server.password)
    if server.path:
        url = f"redis+socket://{user}{quote(server.path)}?virtual_host={server.database}"
    elif server.master_name:
        # kombu takes user and password from the first URL.
        places = [f"{_place(*host)}/{server.database}" for host in server.hosts]
        url = ";".join(f"sentinel://{user}{place}" for place in places)
        options |= {"master_name": server.master_name, "sentinel_kwargs": server.for_sentinels()}
    else:
        scheme = "rediss" if server.tls else "redis"
        url = f"{scheme}://{user}{_place(*server.hosts[0])}/{server.database}"
    ssl = server.tls.for_redis() if server.tls else False
    return BrokerServer(url, server.hosts, server.tls, ssl, options)


def _of_rabbitmq(url: str) -> BrokerServer:
    parts = split(url, SCHEMES)
    known = {"heartbeat": whole(0, 3600)}
    given = read_options(parts, {**known, **(TLS_OPTIONS if parts.scheme == "amqps" else {})})
    tls = Tls.from_options(given) if parts.scheme == "amqps" else None
    places = hosts(parts, _AMQP_PORTS[parts.scheme])
    if len(places) > 1:
        raise BadServerUrl("a URL with one host; put a load balancer before several brokers")
    host, port = places[0]
    query = f"?{urlencode(given)}" if given else ""
    path = quote(unquote(parts.path.removeprefix("/")), safe="")
    bare = f"{parts.scheme}://{_user(*credentials(parts))}{_place(host, port)}/{path}{query}"
    return BrokerServer(bare, places, tls, tls.for_amqp(host) if tls else False, {})


def _user(name: str | None, password: str | None) -> str:
    if not name and not password:
        return ""
    return f"{quote(name or '', safe='')}:{quote(password or '', safe='')}@"


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
