"""Settings that are allowed and dangerous. `orchestrator doctor` warns of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.net.addresses import is_private
from orchestrator.security.secret import Secret
from orchestrator.servers.broker_server import BrokerServer
from orchestrator.servers.redis_server import RedisServer
from orchestrator.settings.settings import Settings

#: The API key of `orchestrator dev`. It is constant, because `dev` listens on 127.0.0.1 only.
DEV_KEY = "dev-key-of-this-machine"
#: The API key of every provider in the sandbox.
SANDBOX_KEY = "sandbox"
_DEMO_KEYS = {DEV_KEY, SANDBOX_KEY}
#: A key of a demo, or a word that somebody typed in place of a random key.
_TYPED = re.compile(
    r"(?:change.?me|demo|dev|example|foo|key|local|password|qwert|sample|sandbox|secret|test|123)"
    r"[\w.-]*",
    re.IGNORECASE,
)
#: A random key of 16 characters has more different characters than this.
_FEW_CHARACTERS = 5
_RANDOM = "make a random one with: openssl rand -hex 32"


@dataclass(frozen=True, slots=True)
class Danger:
    """What a setting allows, and its correction."""

    allows: str
    fix: str


def dangers(settings: Settings) -> Iterator[Danger]:
    """Yield every danger."""
    yield from _addresses(settings)
    yield from _keys(settings)
    yield from _servers(settings)


def _addresses(settings: Settings) -> Iterator[Danger]:
    if settings.allow_private_networks:
        yield Danger(
            "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS=1: links and notify URLs reach private addresses",
            "unset it; name single hosts in ORCHESTRATOR_ALLOW_HOSTS",
        )
    if settings.public_url and urlsplit(settings.public_url).scheme == "http":
        allows = "ORCHESTRATOR_PUBLIC_URL has no TLS: callbacks and their tokens can be read"
        yield Danger(allows, "put a proxy with TLS before web, and set the https:// address")
    for name, provider in settings.providers.items():
        url = urlsplit(provider.base_url)
        if url.scheme == "http" and _is_public(url.hostname or ""):
            allows = f"{name.upper()}_BASE_URL has no TLS: the API key can be read"
            yield Danger(allows, "set its https:// address")


def _keys(settings: Settings) -> Iterator[Danger]:
    """Look at what guards this installation, then at the keys of providers."""

    def guessable(secret: Secret) -> bool:
        text = secret.reveal()
        few = len(set(text)) <= _FEW_CHARACTERS
        return text in _DEMO_KEYS or few or _TYPED.fullmatch(text) is not None

    for variable, keys in (
        ("ORCHESTRATOR_API_KEYS", settings.api_keys),
        ("ORCHESTRATOR_ADMIN_KEYS", settings.admin_keys),
    ):
        for name in (name for name, key in keys.items() if guessable(key)):
            yield Danger(f"{variable}: the key of {name} can be guessed", _RANDOM)
    if any(map(guessable, settings.secret_keys)):
        yield Danger("ORCHESTRATOR_SECRET_KEY, or an old one, can be guessed", _RANDOM)
    for name, provider in settings.providers.items():
        if provider.api_key.reveal() in _DEMO_KEYS:
            allows = f"{name.upper()}_API_KEY is the key of the sandbox"
            yield Danger(allows, "set the key of your account, or unset it")


def _servers(settings: Settings) -> Iterator[Danger]:
    redis = RedisServer.parse(settings.redis_url, is_cluster=settings.redis_cluster)
    broker = BrokerServer.parse(settings.broker_url)
    for name, hosts, tls in (
        ("ORCHESTRATOR_REDIS_URL", redis.hosts, redis.tls),
        ("ORCHESTRATOR_BROKER_URL", broker.hosts, broker.tls),
    ):
        if tls and not tls.is_verified:
            allows = (
                f"{name} has ssl_cert_reqs=none: an attacker on the network can read the password"
            )
            yield Danger(allows, "remove it, and set ssl_ca_certs to your authority")
        if not tls and any(_is_public(host) for host, _ in hosts):
            allows = f"{name} has no TLS to a public host: passwords and prompts can be read"
            yield Danger(allows, "use rediss:// or amqps://, or a private network")


def _is_public(host: str) -> bool:
    """Return whether a host is on the internet. A name without dots is local."""
    return "." in host and not is_private(host)
