"""The settings of one installation, typed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.ledger import ProviderLimits
from orchestrator.ledger.admission import NO_LIMITS
from orchestrator.net.addresses import is_private
from orchestrator.net.guard import Guard
from orchestrator.net.proxy import Proxy
from orchestrator.providers import BROKEN, PROVIDERS
from orchestrator.security.secret import Secret
from orchestrator.settings.caller_settings import read_callers, read_secret_keys
from orchestrator.settings.environment import (
    HTTP,
    ConfigError,
    EnvironmentReader,
    invalid_setting,
    one_line,
    redacted,
)
from orchestrator.settings.model_routes import Routes
from orchestrator.settings.provider_settings import (
    ProviderSettings,
    shards_of,
)
from orchestrator.settings.server_settings import read_network, read_servers
from orchestrator.storage.storage import Storage

#: The longest public URL. Providers accept callback URLs of 2048 characters; our path needs the
#: rest.
MAX_PUBLIC_URL_CHARACTERS = 1800

MIB = 1024 * 1024
#: Archives and notifications that one worker process does at once. Both wait for servers.
DEFAULT_ARCHIVE_THREADS, DEFAULT_NOTIFY_THREADS = 16, 64
#: The most threads of one kind. Each thread may hold a connection to Redis.
MAX_THREADS = 512


#: Every ORCHESTRATOR_ variable. A test compares this list with what is read.
VARIABLES = frozenset(
    f"ORCHESTRATOR_{name}"
    for name in (
        "ADMIN_KEYS",
        "ALLOW_HOSTS",
        "ALLOW_PRIVATE_NETWORKS",
        "ANSWER_WAIT_SECONDS",
        "API_KEYS",
        "ARCHIVE",
        "ARCHIVE_THREADS",
        "ARCHIVE_URL",
        "BROKER_URL",
        "CALLBACK_GRACE_SECONDS",
        "CA_BUNDLE",
        "CONNECT_TIMEOUT_SECONDS",
        "CORS_ORIGINS",
        "DATA_DIR",
        "DOWNLOAD_TIMEOUT_SECONDS",
        "DRAIN_SECONDS",
        "HISTORY_DAYS",
        "HISTORY_URL",
        "IMAGE_HTTPS_ONLY",
        "JOB_DEADLINE_SECONDS",
        "MAX_IMAGE_BYTES",
        "MAX_IMAGE_PIXELS",
        "MAX_UPLOAD_BYTES",
        "MCP_API_URL",
        "MCP_HOSTS",
        "MCP_KEY",
        "METRICS_TENANTS",
        "MODEL_ROUTES",
        "NOTIFY_SECRET",
        "NOTIFY_SECRETS_OLD",
        "NOTIFY_TASKS",
        "NOTIFY_THREADS",
        "OUTBOUND_PROXY",
        "PUBLIC_URL",
        "READ_TIMEOUT_SECONDS",
        "REDIS_CLUSTER",
        "REDIS_URL",
        "REDIS_WAIT_REPLICAS",
        "RETENTION_DAYS",
        "SECRET_KEY",
        "SECRET_KEYS_OLD",
        "SHARDS",
        "SPOOL_DIR",
        "SWEEP_SECONDS",
        "THIN_SUCCESS_SECONDS",
    )
)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Times are in seconds unless the name says otherwise."""

    redis_url: str = field(repr=False)
    #: Whether the URL names a node of a Redis Cluster.
    redis_cluster: bool
    #: Opens connections to providers, image hosts and notify URLs. None: they are opened directly.
    outbound_proxy: Proxy | None
    #: A file with the authorities that are trusted for these connections.
    ca_bundle: str
    #: The replicas that must have each write of the ledger before it is acknowledged.
    redis_wait_replicas: int
    broker_url: str = field(repr=False)
    public_url: str | None
    secret_keys: tuple[Secret, ...]
    #: By tenant, and by the name of the administrator.
    api_keys: Mapping[str, Secret]
    admin_keys: Mapping[str, Secret]
    #: Whether `/metrics`, which needs no key, names the tenants.
    metrics_tenants: bool
    data_dir: Path
    spool_dir: Path | None
    allow_private_networks: bool
    allow_hosts: tuple[str, ...]
    #: Whether images are archived.
    archive: bool
    archive_url: str = field(repr=False)
    history_url: str = field(repr=False)
    image_https_only: bool
    notify_secrets: tuple[Secret, ...]
    notify_tasks: tuple[str, ...]
    #: Web pages of these origins may call the API from a browser. `*` is every page.
    cors_origins: tuple[str, ...]
    #: Which provider and model a name means, in the calls of OpenAI's and Gemini's clients.
    model_routes: Routes
    #: The longest time that such a call is held until its job has an outcome.
    answer_wait_seconds: float
    callback_grace_seconds: float
    job_deadline_seconds: float
    thin_success_seconds: float
    retention_days: float
    history_days: float
    connect_timeout_seconds: float
    read_timeout_seconds: float
    download_timeout_seconds: float
    drain_seconds: float
    sweep_seconds: float
    shards: int
    archive_threads: int
    notify_threads: int
    max_upload_bytes: int
    max_image_bytes: int
    max_image_pixels: int
    providers: Mapping[str, ProviderSettings]

    @property
    def limits(self) -> Mapping[str, ProviderLimits]:
        """The limits of the providers that have one."""
        limits = {name: each.limits for name, each in self.providers.items()}
        return {name: each for name, each in limits.items() if each != NO_LIMITS}

    @property
    def guard(self) -> Guard:
        """The rules for URLs that somebody else chose."""
        return Guard(allow_private=self.allow_private_networks, allow_hosts=self.allow_hosts)

    @classmethod
    def from_env(cls) -> Settings:
        """Read the settings of this process's environment.

        Raises:
            ConfigError: for the first variable that is missing or wrong.
        """
        _check_plugins()
        env = EnvironmentReader()
        return cls(
            **_connections(env),
            **read_callers(env),
            **_storage(env),
            **_times(env),
            **_limits(env),
            providers={
                name: settings
                for name, provider in PROVIDERS.items()
                if (settings := ProviderSettings.from_env(env, provider))
            },
        )


def _connections(env: EnvironmentReader) -> dict[str, Any]:
    """Read the addresses of Redis and the broker, and our own."""
    private = env.boolean("ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS", default=False)
    public_url = _public_url(env, private)
    return {
        **read_servers(env),
        "public_url": public_url,
        "secret_keys": read_secret_keys(env, required=public_url is not None),
        "shards": shards_of(env),
        "allow_private_networks": private,
        "allow_hosts": _allow_hosts(env),
        **read_network(env),
    }


def _storage(env: EnvironmentReader) -> dict[str, Any]:
    """Read where files are kept."""
    data_dir = Path(env.text("ORCHESTRATOR_DATA_DIR", "./data"))
    spool = env.optional("ORCHESTRATOR_SPOOL_DIR")
    return {
        "data_dir": data_dir,
        "spool_dir": Path(spool) if spool else None,
        "archive": env.boolean("ORCHESTRATOR_ARCHIVE", default=True),
        "archive_url": _archive_url(env, data_dir),
        "history_url": _history_url(env, data_dir),
        "image_https_only": env.boolean("ORCHESTRATOR_IMAGE_HTTPS_ONLY", default=False),
    }


def _times(env: EnvironmentReader) -> dict[str, Any]:
    """Read the times: default, lowest and highest value."""
    bounds = {
        "answer_wait_seconds": (600, 1, 3600),
        "callback_grace_seconds": (30, 0, 86_400),
        "job_deadline_seconds": (3600, 1, 604_800),
        "thin_success_seconds": (300, 0, 86_400),
        "retention_days": (7, 0.01, 3650),
        "history_days": (365, 0.01, 36_500),
        "connect_timeout_seconds": (5, 0.1, 300),
        "read_timeout_seconds": (30, 0.1, 300),
        "download_timeout_seconds": (60, 1, 3600),
        "drain_seconds": (60, 0, 3600),
        "sweep_seconds": (1, 1, 10),
    }
    return {
        name: env.number(f"ORCHESTRATOR_{name.upper()}", default, low, high)
        for name, (default, low, high) in bounds.items()
    }


def _limits(env: EnvironmentReader) -> dict[str, Any]:
    """Read the limits of threads and sizes: default, lowest and highest value."""
    bounds = {
        "archive_threads": (DEFAULT_ARCHIVE_THREADS, 1, MAX_THREADS),
        "notify_threads": (DEFAULT_NOTIFY_THREADS, 1, MAX_THREADS),
        "max_upload_bytes": (10 * MIB, 0, 64 * MIB),
        "max_image_bytes": (256 * MIB, 1024, 1024 * MIB),
        "max_image_pixels": (100_000_000, 4096, 1_000_000_000),
    }
    return {
        name: env.whole(f"ORCHESTRATOR_{name.upper()}", default, low, high)
        for name, (default, low, high) in bounds.items()
    }


def _check_plugins() -> None:
    for name, reason in BROKEN.items():
        problem = f"the provider plug-in {name!r} cannot be used ({one_line(reason)})"
        raise ConfigError(f"{problem}. Fix the plug-in or uninstall its package.")


def _public_url(env: EnvironmentReader, private: bool) -> str | None:
    name = "ORCHESTRATOR_PUBLIC_URL"
    if env.optional(name) is None:
        return None
    value = env.url(name, HTTP if private else ("https",), "").rstrip("/")
    host = urlsplit(value).hostname or ""
    if len(value) > MAX_PUBLIC_URL_CHARACTERS:
        raise invalid_setting(
            name, f"{value[:60]}...", f"a URL of at most {MAX_PUBLIC_URL_CHARACTERS} characters"
        )
    if not private and is_private(host):
        allowed = (
            "a host that providers can reach (ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS=1 allows any)"
        )
        raise invalid_setting(name, value, allowed)
    return value


def _archive_url(env: EnvironmentReader, data_dir: Path) -> str:
    name = "ORCHESTRATOR_ARCHIVE_URL"
    url = env.text(name, (data_dir / "archive").absolute().as_uri())
    try:
        Storage.from_url(url)
    except ValueError as error:
        raise invalid_setting(name, redacted(url), str(error)) from None
    return url


def _history_url(env: EnvironmentReader, data_dir: Path) -> str:
    name = "ORCHESTRATOR_HISTORY_URL"
    default = f"sqlite:///{(data_dir / 'history' / 'history.db').absolute()}"
    url = env.text(name, default)
    allowed = "sqlite:////folder/history.db or postgresql+psycopg://user:password@host/database"
    try:
        scheme, path = urlsplit(url).scheme, urlsplit(url).path
    except ValueError:
        scheme, path = "", ""
    if scheme not in ("sqlite", "postgresql+psycopg") or not path.strip("/"):
        raise invalid_setting(name, redacted(url), allowed)
    if scheme != "sqlite" and find_spec("psycopg") is None:
        fix = "Run pip install 'image-orchestrator[postgres]'."
        raise ConfigError(f"{name} names PostgreSQL, but psycopg is not installed. {fix}")
    return url


def _allow_hosts(env: EnvironmentReader) -> tuple[str, ...]:
    name = "ORCHESTRATOR_ALLOW_HOSTS"
    hosts = env.items(name)
    try:
        Guard(allow_hosts=hosts)
    except ValueError as error:
        raise invalid_setting(name, ",".join(hosts), str(error)) from None
    return hosts
