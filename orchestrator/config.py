"""Settings: read from the environment once, typed, and checked with a clear line for each error.

Every variable may also be given as `NAME_FILE`, the path of a file that holds the value, as
container platforms hand secrets over. An empty value counts as unset.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from environs import EnvError, FileAwareEnv

from orchestrator.prices import ANY, BadPrices, PriceTable
from orchestrator.providers import BROKEN, PROVIDERS, Provider
from orchestrator.security.addresses import is_private
from orchestrator.security.secret import Secret

#: The shortest secret that signs callback URLs. Characters.
MIN_SECRET = 16
#: EvoLink takes callback URLs of up to 2048 characters; this leaves room for our path.
MAX_PUBLIC_URL = 1800

MIB = 1024 * 1024

_KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PRINTABLE = re.compile(r"[!-~]+")
_MAKE_ONE = "make one with: openssl rand -hex 32"
#: How much of a refused value an error repeats. Characters.
_SHOWN = 200


#: Every ORCHESTRATOR_ variable that is read; a test holds this list against the reading.
VARIABLES = frozenset(
    f"ORCHESTRATOR_{name}"
    for name in (
        "ALLOW_PRIVATE_NETWORKS",
        "API_KEYS",
        "BROKER_URL",
        "CALLBACK_GRACE_SECONDS",
        "CONNECT_TIMEOUT_SECONDS",
        "DATA_DIR",
        "DRAIN_SECONDS",
        "JOB_DEADLINE_SECONDS",
        "MAX_UPLOAD_BYTES",
        "PUBLIC_URL",
        "READ_TIMEOUT_SECONDS",
        "REDIS_URL",
        "RETENTION_DAYS",
        "SECRET_KEY",
        "SECRET_KEYS_OLD",
        "SHARDS",
        "SPOOL_DIR",
    )
)


class ConfigError(Exception):
    """A setting is missing or wrong. One line: the variable, its value, what is allowed."""


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One provider that is on, because its API key is set. Times in seconds."""

    api_key: Secret
    base_url: str
    poll_seconds: float
    max_poll_seconds: float
    confirm_callbacks: bool = False
    webhook_secrets: tuple[Secret, ...] = ()
    prices: PriceTable | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an installation can choose. Times in seconds unless named otherwise."""

    redis_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    public_url: str | None
    secret_keys: tuple[Secret, ...]
    api_keys: Mapping[str, Secret]
    data_dir: Path
    spool_dir: Path | None
    allow_private_networks: bool
    callback_grace_seconds: float
    job_deadline_seconds: float
    retention_days: float
    connect_timeout_seconds: float
    read_timeout_seconds: float
    drain_seconds: float
    shards: int
    max_upload_bytes: int
    providers: Mapping[str, ProviderSettings]

    @classmethod
    def from_env(cls) -> Settings:
        """The settings of this process' environment.

        Raises:
            ConfigError: for the first variable that is missing or wrong.
        """
        _check_plugins()
        env = _Reader()
        private = env.boolean("ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS", default=False)
        redis_url = env.url("ORCHESTRATOR_REDIS_URL", _REDIS, "redis://127.0.0.1:6379/0")
        public_url = _public_url(env, private)
        return cls(
            redis_url=redis_url,
            broker_url=env.url("ORCHESTRATOR_BROKER_URL", _BROKER, _as_broker(redis_url)),
            public_url=public_url,
            secret_keys=_secret_keys(env, required=public_url is not None),
            api_keys=_api_keys(env),
            data_dir=Path(env.text("ORCHESTRATOR_DATA_DIR", "./data")),
            spool_dir=Path(spool) if (spool := env.optional("ORCHESTRATOR_SPOOL_DIR")) else None,
            allow_private_networks=private,
            callback_grace_seconds=env.number("ORCHESTRATOR_CALLBACK_GRACE_SECONDS", 30, 0, 86_400),
            job_deadline_seconds=env.number("ORCHESTRATOR_JOB_DEADLINE_SECONDS", 3600, 1, 604_800),
            retention_days=env.number("ORCHESTRATOR_RETENTION_DAYS", 30, 0.01, 3650),
            connect_timeout_seconds=env.number("ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS", 5, 0.1, 300),
            read_timeout_seconds=env.number("ORCHESTRATOR_READ_TIMEOUT_SECONDS", 30, 0.1, 300),
            drain_seconds=env.number("ORCHESTRATOR_DRAIN_SECONDS", 60, 0, 3600),
            shards=int(env.number("ORCHESTRATOR_SHARDS", 1, 1, 256, whole=True)),
            max_upload_bytes=int(
                env.number("ORCHESTRATOR_MAX_UPLOAD_BYTES", 10 * MIB, 0, 64 * MIB, whole=True)
            ),
            providers={
                name: settings
                for name, provider in PROVIDERS.items()
                if (settings := _provider(env, provider))
            },
        )


_REDIS = ("redis", "rediss", "unix")
_BROKER = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps")
_HTTP = ("http", "https")


class _Environment(FileAwareEnv):
    """The process environment, in which an empty value counts as unset."""

    def _get_value(self, env_key: str, default: Any) -> Any:
        value = super()._get_value(env_key, default)
        return default if isinstance(value, str) and not value.strip() else value


class _Reader:
    """Reads variables one by one; every error becomes one line of ConfigError."""

    def __init__(self) -> None:
        self._env = _Environment(strip_whitespace=True)

    def text(self, name: str, default: str) -> str:
        return self.optional(name) or default

    def optional(self, name: str) -> str | None:
        value = self._read(name, "text", lambda: self._env.str(name, None))
        if value is not None and not str(value).isprintable():  # also what is no UTF-8
            raise wrong(name, "***", "one line of printable UTF-8 text")
        return None if value is None else str(value)

    def lines(self, name: str) -> str | None:
        """Text that may have several lines, as a file of JSON has, made into one."""
        value = self._read(name, "text", lambda: self._env.str(name, None))
        return None if value is None else " ".join(str(value).split())

    def secret(self, name: str) -> Secret | None:
        value = self.optional(name)
        if value and not _PRINTABLE.fullmatch(value):
            raise wrong(name, "***", "printable ASCII characters, as HTTP headers take them")
        return Secret(value) if value else None

    def boolean(self, name: str, *, default: bool) -> bool:
        return bool(self._read(name, "1 or 0", lambda: self._env.bool(name, default)))

    def number(
        self, name: str, default: float, low: float, high: float, *, whole: bool = False
    ) -> float:
        allowed = f"a {'whole ' if whole else ''}number from {low:.15g} to {high:.15g}"
        cast: Any = self._env.int if whole else self._env.float
        value = self._read(name, allowed, lambda: cast(name, default))
        if not low <= value <= high:
            raise wrong(name, value, allowed)
        return float(value)

    def url(self, name: str, schemes: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        allowed = f"a URL that begins with {' or '.join(f'{s}://' for s in schemes)}"
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise wrong(name, redacted(value), allowed) from None
        if parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")):
            raise wrong(name, redacted(value), allowed)
        if parts.scheme in _HTTP:
            if not parts.hostname or not _PRINTABLE.fullmatch(value):
                raise wrong(name, redacted(value), f"{allowed} and names a host")
            if "@" in parts.netloc or "?" in value or "#" in value:
                raise wrong(name, redacted(value), "a base URL without user, password, ? or #")
        return value

    def _read(self, name: str, allowed: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except EnvError:
            raise wrong(name, self._env.str(name), allowed) from None
        except (ValueError, OSError):
            raise ConfigError(f"{name}_FILE must name a readable file") from None


def wrong(name: str, value: object, allowed: str) -> ConfigError:
    """The one form of a complaint about a variable; one line, whatever the value holds."""
    return ConfigError(f"{name}={_one_line(value)} is not accepted; allowed: {allowed}")


def _one_line(value: object) -> str:
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def redacted(url: str) -> str:
    """A URL without user, password or query."""
    return re.sub(r"//.*@", "//***@", url).partition("?")[0]


def _as_broker(redis_url: str) -> str:
    """A Redis URL as Celery spells it: only sockets have another scheme there."""
    return re.sub("^unix://", "redis+socket://", redis_url)


def _check_plugins() -> None:
    for name, why in BROKEN.items():
        mend = "mend it or uninstall its package"
        told = f"the provider plug-in {name!r} cannot be used ({_one_line(why)})"
        raise ConfigError(f"{told}; {mend}")


def _public_url(env: _Reader, private: bool) -> str | None:
    name = "ORCHESTRATOR_PUBLIC_URL"
    if env.optional(name) is None:
        return None
    value = env.url(name, _HTTP if private else ("https",), "").rstrip("/")
    host = urlsplit(value).hostname or ""
    if len(value) > MAX_PUBLIC_URL:
        raise wrong(name, f"{value[:60]}...", f"a URL of at most {MAX_PUBLIC_URL} characters")
    if not private and is_private(host):
        mend = "a host that providers can reach, or set ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS=1"
        raise wrong(name, value, mend)
    return value


def _secret_keys(env: _Reader, *, required: bool) -> tuple[Secret, ...]:
    name = "ORCHESTRATOR_SECRET_KEY"
    current = env.optional(name)
    if not current:
        if required:
            reason = "needed to sign callback URLs, since ORCHESTRATOR_PUBLIC_URL is set"
            raise ConfigError(f"{name} is not set: {reason}; {_MAKE_ONE}")
        return ()
    old = _split(env.text("ORCHESTRATOR_SECRET_KEYS_OLD", ""))
    for variable, values in ((name, [current]), ("ORCHESTRATOR_SECRET_KEYS_OLD", old)):
        if any(len(value) < MIN_SECRET for value in values):
            raise wrong(variable, "***", f"at least {MIN_SECRET} characters each; {_MAKE_ONE}")
    return tuple(Secret(value) for value in (current, *old))


def _api_keys(env: _Reader) -> dict[str, Secret]:
    variable = "ORCHESTRATOR_API_KEYS"
    keys: dict[str, Secret] = {}
    for pair in _split(env.text(variable, "")):
        name, _, key = pair.partition(":")
        if not _KEY_NAME.fullmatch(name) or not key or name in keys:
            allowed = "name:key,name:key with different names of letters, digits, _ . -"
            raise wrong(variable, "***", allowed)
        keys[name] = Secret(key)
    return keys


def _provider(env: _Reader, provider: Provider) -> ProviderSettings | None:
    prefix = provider.name.upper()
    api_key = env.secret(f"{prefix}_API_KEY")
    if api_key is None:
        return None
    first = env.number(f"{prefix}_POLL_SECONDS", provider.poll_seconds, 0.1, 3600)
    longest = max(first, provider.max_poll_seconds)
    return ProviderSettings(
        api_key=api_key,
        base_url=_base_url(env, provider),
        poll_seconds=first,
        max_poll_seconds=env.number(f"{prefix}_MAX_POLL_SECONDS", longest, first, 86_400),
        confirm_callbacks=provider.capabilities.callbacks
        and env.boolean(f"{prefix}_CONFIRM_CALLBACKS", default=False),
        webhook_secrets=tuple(_webhook_secrets(env, provider)),
        prices=_prices(env, provider),
    )


def _base_url(env: _Reader, provider: Provider) -> str:
    name = f"{provider.name.upper()}_BASE_URL"
    if provider.base_url is None and env.optional(name) is None:
        reason = f"{provider.title}'s documents name no address; your account there does"
        raise ConfigError(f"{name} is not set: {reason}; set it to https://<host>")
    return env.url(name, _HTTP, provider.base_url or "").rstrip("/")


def _prices(env: _Reader, provider: Provider) -> PriceTable | None:
    name = f"{provider.name.upper()}_PRICES"
    text = env.lines(name)
    if text is None:
        return None
    try:
        table = PriceTable.parse(text)
    except BadPrices as error:
        raise wrong(name, text, str(error)) from None
    unknown = [model for model in table.prices if model not in (ANY, *provider.models)]
    if unknown and provider.unlisted is None:
        known = ", ".join(provider.models)
        raise wrong(name, text, f"prices of the models {known}, and not of {unknown[0]!r}")
    return table


def _webhook_secrets(env: _Reader, provider: Provider) -> Iterator[Secret]:
    if not provider.capabilities.signed_callbacks:
        return
    prefix = provider.name.upper()
    current = env.secret(f"{prefix}_WEBHOOK_SECRET")
    if current:
        yield current
        yield from map(Secret, _split(env.text(f"{prefix}_WEBHOOK_SECRETS_OLD", "")))


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
