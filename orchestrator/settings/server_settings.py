"""Settings of the servers that a process connects to, and of the way there."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from orchestrator.net.proxy import Proxy
from orchestrator.net.transfers import DEFAULT_CA_BUNDLE
from orchestrator.servers.broker_server import BrokerServer
from orchestrator.servers.redis_server import RedisServer
from orchestrator.servers.url_parts import BadServerUrl
from orchestrator.settings.environment import (
    ConfigError,
    EnvironmentReader,
    invalid_setting,
    redacted,
)

#: Redis Cluster and Sentinel set-ups rarely have more replicas of one master.
MAX_REPLICAS = 5


def read_servers(env: EnvironmentReader) -> dict[str, Any]:
    """Read the addresses of Redis and of the broker. Both libraries must be able to use them."""
    is_cluster = env.boolean("ORCHESTRATOR_REDIS_CLUSTER", default=False)
    redis_url = env.text("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:6379/0")
    broker_url = env.optional("ORCHESTRATOR_BROKER_URL")
    if is_cluster and broker_url is None:
        reason = "Celery cannot use a Redis Cluster as its broker."
        fix = "Set it to a Redis without cluster mode, or to RabbitMQ."
        raise ConfigError(f"ORCHESTRATOR_BROKER_URL is not set. {reason} {fix}")
    _check_url(
        "ORCHESTRATOR_REDIS_URL", redis_url, partial(RedisServer.parse, is_cluster=is_cluster)
    )
    _check_url("ORCHESTRATOR_BROKER_URL", broker_url or redis_url, BrokerServer.parse)
    return {
        "redis_url": redis_url,
        "redis_cluster": is_cluster,
        "redis_wait_replicas": env.whole("ORCHESTRATOR_REDIS_WAIT_REPLICAS", 0, 0, MAX_REPLICAS),
        "broker_url": broker_url or redis_url,
    }


def read_network(env: EnvironmentReader) -> dict[str, Any]:
    """Read how calls to providers, image hosts and notify URLs leave our network."""
    return {"outbound_proxy": _outbound_proxy(env), "ca_bundle": _ca_bundle(env)}


def _check_url(name: str, url: str, parse: Callable[[str], object]) -> None:
    try:
        parse(url)
    except BadServerUrl as error:
        raise invalid_setting(name, redacted(url), str(error)) from None


def _outbound_proxy(env: EnvironmentReader) -> Proxy | None:
    name = "ORCHESTRATOR_OUTBOUND_PROXY"
    url = env.optional(name)
    try:
        return Proxy.parse(url) if url else None
    except ValueError:
        allowed = "http://host:port or http://user:password@host:port"
        raise invalid_setting(name, redacted(url or ""), allowed) from None


def _ca_bundle(env: EnvironmentReader) -> str:
    name = "ORCHESTRATOR_CA_BUNDLE"
    path = env.text(name, DEFAULT_CA_BUNDLE)
    try:
        if path != DEFAULT_CA_BUNDLE:  # reading the authorities takes 40 ms
            ssl.create_default_context(cafile=path)
    except (OSError, ValueError):  # an SSLError is an OSError
        allowed = "the path of a readable file with certificates in PEM form"
        raise invalid_setting(name, path, allowed) from None
    return path
