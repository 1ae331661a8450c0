"""Settings: each variable with its default, good values and bad ones; no message tells a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest

from orchestrator.jobs.request import Target
from orchestrator.net.proxy import Proxy
from orchestrator.providers import BROKEN, BUILT_IN
from orchestrator.providers.prices import PriceTable
from orchestrator.settings.mcp_settings import McpSettings
from orchestrator.settings.settings import VARIABLES, Settings
from tests.settings.kit import ALL, DOCS, KEYS, PUBLIC, found, refusal
from tests.support.providers import POLLED, SIGNING

# Values --------------------------------------------------------------------------------------


def _good_provider_settings() -> Iterator[tuple[str, tuple[str, Any, str, Any]]]:
    """Yield the settings that every provider has, in the form of GOOD."""
    for name, provider in BUILT_IN.items():
        place, prefix = f"providers.{name}", name.upper()
        if provider.base_url:
            url = "http://10.0.0.1:1/x"
            yield f"{prefix}_BASE_URL", (f"{place}.base_url", provider.base_url, f"{url}/", url)
        first, longest = provider.poll_seconds, provider.max_poll_seconds
        yield f"{prefix}_POLL_SECONDS", (f"{place}.poll_seconds", first, "4.5", 4.5)
        yield f"{prefix}_MAX_POLL_SECONDS", (f"{place}.max_poll_seconds", longest, "90", 90.0)
        yield f"{prefix}_THREADS", (f"{place}.concurrency", 1024, "512", 512)
        limits = f"{place}.limits"
        yield f"{prefix}_MAX_IN_FLIGHT", (f"{limits}.max_in_flight", None, "7", 7)
        yield f"{prefix}_REQUESTS_PER_SECOND", (f"{limits}.requests_per_second", None, "0.5", 0.5)
        yield f"{prefix}_BURST", (f"{limits}.burst", 1, "9", 9)
        table = PriceTable("x", {"*": {"4K": 3, "*": 2}})
        text = '{"unit": "x", "prices": {"*": {"4K": 3, "*": 2}}}'
        yield f"{prefix}_PRICES", (f"{place}.prices", None, text, table)
        if provider.capabilities.callbacks:
            yield f"{prefix}_CONFIRM_CALLBACKS", (f"{place}.confirm_callbacks", False, "1", True)
        if keys := provider.capabilities.jwks_url:
            url = "https://keys.example.com/jwks.json"
            yield f"{prefix}_JWKS_URL", (f"{place}.jwks_url", keys, url, url)


#: Variable -> where it goes, its default, a good value, and what that is read as.
GOOD: dict[str, tuple[str, Any, str, Any]] = {
    "ORCHESTRATOR_REDIS_URL": (
        "redis_url", "redis://127.0.0.1:6379/0", "unix:///run/redis.sock", "unix:///run/redis.sock",
    ),
    "ORCHESTRATOR_BROKER_URL": (
        "broker_url", "redis://127.0.0.1:6379/0", "amqp://mq:5672//", "amqp://mq:5672//",
    ),
    "ORCHESTRATOR_REDIS_WAIT_REPLICAS": ("redis_wait_replicas", 0, "1", 1),
    "ORCHESTRATOR_OUTBOUND_PROXY": (
        "outbound_proxy", None, "http://u:p@proxy:3128", Proxy("proxy", 3128, "u", "p"),
    ),
    "ORCHESTRATOR_CA_BUNDLE": ("ca_bundle", certifi.where(), certifi.where(), certifi.where()),
    "ORCHESTRATOR_DATA_DIR": ("data_dir", Path("data"), "/var/lib/x", Path("/var/lib/x")),
    "ORCHESTRATOR_SPOOL_DIR": ("spool_dir", None, "/data/spool", Path("/data/spool")),
    "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": ("allow_private_networks", False, "1", True),
    "ORCHESTRATOR_ALLOW_HOSTS": (
        "allow_hosts", (), "10.0.0.0/8, *.shop.example,", ("10.0.0.0/8", "*.shop.example"),
    ),
    "ORCHESTRATOR_ARCHIVE": ("archive", True, "0", False),
    "ORCHESTRATOR_ARCHIVE_URL": (
        "archive_url", f"file://{Path.cwd()}/data/archive", "s3://images/here", "s3://images/here",
    ),
    "ORCHESTRATOR_HISTORY_URL": (
        "history_url", f"sqlite:///{Path.cwd()}/data/history/history.db",
        "postgresql+psycopg://db/jobs", "postgresql+psycopg://db/jobs",
    ),
    "ORCHESTRATOR_HISTORY_DAYS": ("history_days", 365.0, "0.5", 0.5),
    "ORCHESTRATOR_METRICS_TENANTS": ("metrics_tenants", False, "1", True),
    "ORCHESTRATOR_IMAGE_HTTPS_ONLY": ("image_https_only", False, "1", True),
    "ORCHESTRATOR_NOTIFY_TASKS": ("notify_tasks", (), "shop.done, crm.*", ("shop.done", "crm.*")),
    "ORCHESTRATOR_MODEL_ROUTES": (
        "model_routes",
        {},
        "gpt-image-1 = uniall/gpt-image-2 | hiapi/Nano-Banana-2, fox=evolink/nano-banana-2",
        {
            "gpt-image-1": (Target("uniall", "gpt-image-2"), Target("hiapi", "Nano-Banana-2")),
            "fox": (Target("evolink", "nano-banana-2"),),
        },
    ),
    "ORCHESTRATOR_ANSWER_WAIT_SECONDS": ("answer_wait_seconds", 600.0, "1", 1.0),
    "ORCHESTRATOR_THIN_SUCCESS_SECONDS": ("thin_success_seconds", 300.0, "0", 0.0),
    "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": ("callback_grace_seconds", 30.0, "0", 0.0),
    "ORCHESTRATOR_JOB_DEADLINE_SECONDS": ("job_deadline_seconds", 3600.0, "90.5", 90.5),
    "ORCHESTRATOR_RETENTION_DAYS": ("retention_days", 7.0, "0.5", 0.5),
    "ORCHESTRATOR_CORS_ORIGINS": (
        "cors_origins",
        (),
        "https://a.example, http://127.0.0.1:3000",
        ("https://a.example", "http://127.0.0.1:3000"),
    ),
    "ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS": ("connect_timeout_seconds", 5.0, "0.1", 0.1),
    "ORCHESTRATOR_READ_TIMEOUT_SECONDS": ("read_timeout_seconds", 30.0, "300", 300.0),
    "ORCHESTRATOR_DOWNLOAD_TIMEOUT_SECONDS": ("download_timeout_seconds", 60.0, "1", 1.0),
    "ORCHESTRATOR_DRAIN_SECONDS": ("drain_seconds", 60.0, "0", 0.0),
    "ORCHESTRATOR_SWEEP_SECONDS": ("sweep_seconds", 1.0, "5", 5.0),
    "ORCHESTRATOR_SHARDS": ("shards", 1, "256", 256),
    "ORCHESTRATOR_ARCHIVE_THREADS": ("archive_threads", 16, "1", 1),
    "ORCHESTRATOR_NOTIFY_THREADS": ("notify_threads", 64, "512", 512),
    "ORCHESTRATOR_MAX_UPLOAD_BYTES": ("max_upload_bytes", 10_485_760, "0", 0),
    "ORCHESTRATOR_MAX_IMAGE_BYTES": ("max_image_bytes", 268_435_456, "1024", 1024),
    "ORCHESTRATOR_MAX_IMAGE_PIXELS": ("max_image_pixels", 100_000_000, "4096", 4096),
    **dict(_good_provider_settings()),
}  # fmt: skip


def test_a_variable_has_its_default_and_takes_a_good_value(read: Any) -> None:
    for name, (place, default, good, value) in GOOD.items():
        assert found(read(**KEYS), place) == default, name
        assert found(read(**{**KEYS, name: good}), place) == value, name


def test_the_mcp_server_has_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert McpSettings.from_env() == McpSettings("http://127.0.0.1:8080", None, ())
    monkeypatch.setenv("ORCHESTRATOR_MCP_API_URL", "https://images.example.com/")
    monkeypatch.setenv("ORCHESTRATOR_MCP_KEY", "orch_secret-key")
    monkeypatch.setenv("ORCHESTRATOR_MCP_HOSTS", "agents.example.com, [::2]")
    settings = McpSettings.from_env()

    assert (settings.url, settings.hosts) == (
        "https://images.example.com",
        ("agents.example.com", "[::2]"),
    )
    assert settings.needed_key().reveal() == "orch_secret-key"
    assert "secret" not in repr(settings)


def test_a_cluster_needs_a_broker_of_its_own(read: Any) -> None:
    cluster = {"ORCHESTRATOR_REDIS_CLUSTER": "1", "ORCHESTRATOR_REDIS_URL": "redis://a,b:1"}

    assert read(**cluster, ORCHESTRATOR_BROKER_URL="redis://c").redis_cluster is True
    text = refusal(read, **cluster)
    assert text.startswith("ORCHESTRATOR_BROKER_URL is not set. Celery cannot use a Redis Cluster")


def test_a_blank_value_counts_as_unset(read: Any) -> None:
    for name, (place, default, *_) in GOOD.items():
        for blank in ("", "   "):
            assert found(read(**KEYS, **{name: blank}), place) == default, (name, blank)


def test_a_value_can_come_from_a_file(read: Any, tmp_path: Path) -> None:
    file = tmp_path / "value"
    for name, (place, _, good, value) in GOOD.items():
        file.write_text(f"{good}\n", "utf-8")

        assert found(read(**KEYS, **{f"{name}_FILE": str(file)}), place) == value, name


def test_a_file_that_cannot_be_read_is_refused_by_its_variable(read: Any) -> None:
    for name in [*GOOD, *ALL]:
        others = {other: value for other, value in ALL.items() if other != name}

        text = refusal(read, **others, **{f"{name}_FILE": "/no/such/file"})

        assert f"{name}_FILE" in text


BAD_URLS = [
    "api.hiapi.ai", "ftp://x", "https:x", "https://", "https://:443", "https://a b", "http://x?a",
    "https://x#y", "https://[::1", "https://x\nHost: y", "http://\u00e9",
]  # fmt: skip
BAD_THREADS = ["0", "-1", "513", "1.5", "many"]
BAD_PRICES = [
    "cheap", "0.02", "[]", '{"unit": "USD"', '{"unit": "USD", "prices": {"*": -0.01}}',
    '{"unit": "USD", "prices": {"*": {"1K": "1"}}}',
]  # fmt: skip


def _bad_provider_settings() -> Iterator[tuple[str, list[str]]]:
    """Yield refused values of the settings that every provider has."""
    for name, provider in BUILT_IN.items():
        prefix, too_short = name.upper(), f"{provider.poll_seconds - 0.1:g}"
        unknown = '{"unit": "USD", "prices": {"no-such-model": 1}}'
        yield f"{prefix}_BASE_URL", BAD_URLS
        yield f"{prefix}_POLL_SECONDS", ["0", "3601", "x"]
        yield f"{prefix}_MAX_POLL_SECONDS", [too_short, "86401", "x"]
        yield f"{prefix}_THREADS", ["0", "-1", "8193", "1.5", "many"]
        yield f"{prefix}_MAX_IN_FLIGHT", ["0", "-1", "1.5", "many"]
        yield f"{prefix}_REQUESTS_PER_SECOND", ["0", "-1", "many", "nan"]
        yield f"{prefix}_BURST", ["0", "-1", "many"]
        yield f"{prefix}_PRICES", [*BAD_PRICES, *([] if provider.unlisted else [unknown])]
        if provider.capabilities.callbacks:
            yield f"{prefix}_CONFIRM_CALLBACKS", ["2", "yes"]
        if provider.capabilities.jwks_url:
            yield f"{prefix}_JWKS_URL", BAD_URLS


BAD: dict[str, list[str]] = {
    "ORCHESTRATOR_REDIS_URL": [
        "localhost:6379", "http://127.0.0.1", "redis://", "redis://x:99999", "[", "a(b://x", "*://x",
    ],
    "ORCHESTRATOR_BROKER_URL": ["localhost", "kafka://x", "http://x", "[", "a(b://x"],
    "ORCHESTRATOR_REDIS_CLUSTER": ["2", "true"],
    "ORCHESTRATOR_OUTBOUND_PROXY": ["proxy:3128", "https://proxy:1", "http://proxy", "http://proxy:1/x"],
    "ORCHESTRATOR_CA_BUNDLE": ["/no/such/file", "/", "pyproject.toml"],
    "ORCHESTRATOR_REDIS_WAIT_REPLICAS": ["-1", "6", "all"],
    "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": ["2", "true"],
    "ORCHESTRATOR_ALLOW_HOSTS": ["10.0.0.0/33", "https://shop.example", "a b"],
    "ORCHESTRATOR_ARCHIVE": ["2", "off"],
    "ORCHESTRATOR_ARCHIVE_URL": ["images", "ftp://x/y", "file://", "s3://", "s3://x?region=y", "file://host/x"],
    "ORCHESTRATOR_MODEL_ROUTES": [
        "x", "x=", "=hiapi/y", "x=hiapi", "x=hiapi/", "x=nobody/y", "x=hiapi/nothing",
        "x=hiapi/Nano-Banana-2|",
        "x=hiapi/Nano-Banana-2|hiapi/nano-banana-2",
    ],
    "ORCHESTRATOR_ANSWER_WAIT_SECONDS": ["0", "3601", "x"],
    "ORCHESTRATOR_THIN_SUCCESS_SECONDS": ["-1", "86401", "soon", "nan", "inf"],
    "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": ["-1", "86401", "soon", "nan", "inf"],
    "ORCHESTRATOR_JOB_DEADLINE_SECONDS": ["0", "604801", "1h"],
    "ORCHESTRATOR_HISTORY_URL": ["history.db", "mysql://x/y", "sqlite://", "sqlite:///", "postgresql://db/jobs"],
    "ORCHESTRATOR_HISTORY_DAYS": ["0", "36501", "x"],
    "ORCHESTRATOR_RETENTION_DAYS": ["0", "3651", "x"],
    "ORCHESTRATOR_CORS_ORIGINS": ["app.example", "https://a.example/", "https://*.example", "null"],
    "ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS": ["0", "301", "1\n2"],
    "ORCHESTRATOR_READ_TIMEOUT_SECONDS": ["0", "301", "x"],
    "ORCHESTRATOR_DOWNLOAD_TIMEOUT_SECONDS": ["0", "3601", "x"],
    "ORCHESTRATOR_DRAIN_SECONDS": ["-1", "3601", "x"],
    "ORCHESTRATOR_SWEEP_SECONDS": ["0", "11", "x"],
    "ORCHESTRATOR_SHARDS": ["0", "257", "1.5", "9" * 400, "9" * 5000],
    "ORCHESTRATOR_ARCHIVE_THREADS": BAD_THREADS,
    "ORCHESTRATOR_NOTIFY_THREADS": BAD_THREADS,
    "ORCHESTRATOR_MAX_UPLOAD_BYTES": ["-1", "67108865", "1.5", "10M"],
    "ORCHESTRATOR_MAX_IMAGE_BYTES": ["1023", "1073741825", "64M"],
    "ORCHESTRATOR_MAX_IMAGE_PIXELS": ["4095", "1000000001", "8K"],
    **dict(_bad_provider_settings()),
    "ORCHESTRATOR_PUBLIC_URL": ["hooks.example.com", "ftp://x", "https://x?a=b", "https://x#y", "https://"],
}  # fmt: skip


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_a_bad_value_is_refused_in_one_line_that_names_it(read: Any) -> None:
    for name, values in BAD.items():
        for bad in values:
            text = refusal(read, **{**ALL, name: bad})

            assert text.startswith(f"{name} must be ")
            assert "; got " in text
            assert len(text) < 500
            if bad.isascii() and bad.isprintable() and "?" not in bad and len(bad) < 100:
                number = f"; got {float(bad):g}" if _is_number(bad) else bad
                assert text.endswith((f"; got {bad}", number))


def test_a_large_limit_is_told_in_full(read: Any) -> None:
    assert "from 0 to 67108864" in refusal(read, ORCHESTRATOR_MAX_UPLOAD_BYTES="67108865")


# Public URL ----------------------------------------------------------------------------------


def test_a_public_url_loses_its_last_slash(read: Any) -> None:
    settings = read(**{**PUBLIC, "ORCHESTRATOR_PUBLIC_URL": "https://hooks.example.com/base/"})

    assert settings.public_url == "https://hooks.example.com/base"


def test_without_a_public_url_no_secret_is_needed(read: Any) -> None:
    settings = read()

    assert (settings.public_url, settings.secret_keys) == (None, ())


def test_a_public_url_needs_a_secret_key(read: Any) -> None:
    text = refusal(read, ORCHESTRATOR_PUBLIC_URL="https://hooks.example.com")

    assert text.startswith("ORCHESTRATOR_SECRET_KEY is not set")
    assert "openssl rand -hex 32" in text


PRIVATE = ["localhost", "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254"]
PRIVATE += ["[::1]", "[fd00::1]", "[fe80::1]", "0.0.0.0", "x.local", "x.internal", "a.localhost"]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_host_is_refused_unless_private_networks_are_allowed(
    read: Any, host: str
) -> None:
    url = {**PUBLIC, "ORCHESTRATOR_PUBLIC_URL": f"https://{host}:8443"}

    assert "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS=1" in refusal(read, **url)
    assert read(**url, ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS="1").public_url == f"https://{host}:8443"


def test_http_is_refused_unless_private_networks_are_allowed(read: Any) -> None:
    url = {**PUBLIC, "ORCHESTRATOR_PUBLIC_URL": "http://hooks.example.com"}

    assert "begins with https://" in refusal(read, **url)
    assert read(**url, ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS="1").public_url.startswith("http://")


def test_a_public_url_leaves_room_for_the_path(read: Any) -> None:
    longest = "https://hooks.example.com/".ljust(1800, "x")

    assert read(**{**PUBLIC, "ORCHESTRATOR_PUBLIC_URL": longest}).public_url == longest
    assert "at most 1800" in refusal(read, **{**PUBLIC, "ORCHESTRATOR_PUBLIC_URL": longest + "x"})


# Providers -----------------------------------------------------------------------------------


def test_a_provider_is_on_only_with_its_key(read: Any) -> None:
    assert read().providers == {}
    assert list(read(EVOLINK_API_KEY="sk").providers) == ["evolink"]
    assert list(read(HIAPI_API_KEY="sk", EVOLINK_API_KEY="sk").providers) == ["hiapi", "evolink"]
    assert list(read(**KEYS).providers) == list(BUILT_IN)


def test_the_settings_of_a_provider_that_is_off_are_not_looked_at(read: Any) -> None:
    assert read(HIAPI_POLL_SECONDS="nonsense", EVOLINK_PRICES="nonsense").providers == {}


def test_a_provider_whose_documents_name_no_address_needs_one(read: Any) -> None:
    name = next(name for name, provider in BUILT_IN.items() if provider.base_url is None)

    text = refusal(read, **{f"{name.upper()}_API_KEY": "sk"})

    assert text.startswith(f"{name.upper()}_BASE_URL is not set")
    assert "https://<host>" in text


@pytest.mark.parametrize("name", POLLED)
def test_callbacks_cannot_be_confirmed_where_there_are_none(read: Any, name: str) -> None:
    settings = read(**KEYS, **{f"{name.upper()}_CONFIRM_CALLBACKS": "perhaps"})

    assert not settings.providers[name].confirm_callbacks


def test_a_plug_in_that_cannot_be_used_stops_with_one_line(
    read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BROKEN, "oops", "ImportError: no\nsuch thing")

    text = refusal(read)

    assert text.startswith("the provider plug-in 'oops' cannot be used (ImportError: no")
    assert "uninstall its package" in text


# What is read, and what is told --------------------------------------------------------------


class Recorded(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Every variable that is read when everything is switched on."""
    with monkeypatch.context() as patch:
        environment = Recorded({**os.environ, **ALL})
        patch.setattr(os, "environ", environment)
        Settings.from_env()
        McpSettings.from_env()
        yield {name for name in environment.asked if not name.endswith("_FILE")}


def test_every_variable_that_is_read_is_documented_and_the_other_way_round(
    asked: set[str],
) -> None:
    page = DOCS.read_text("utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    documented = {
        name for row in rows for name in re.findall(r"`((?:\{PROVIDER\}_)?[A-Z_]+)`", row)
    }
    prefixes = "|".join(name.upper() for name in BUILT_IN)

    assert documented == {re.sub(rf"^({prefixes})_", "{PROVIDER}_", name) for name in asked}


def test_the_list_of_our_variables_is_what_is_read(asked: set[str]) -> None:
    assert {name for name in asked if name.startswith("ORCHESTRATOR_")} == VARIABLES


def test_a_table_of_this_module_covers_every_variable(asked: set[str]) -> None:
    told_apart = {"ORCHESTRATOR_PUBLIC_URL", "ORCHESTRATOR_SECRET_KEY", "ORCHESTRATOR_API_KEYS"}
    told_apart |= {"ORCHESTRATOR_SECRET_KEYS_OLD"}
    told_apart |= {f"{name.upper()}_WEBHOOK_SECRET" for name in SIGNING}
    told_apart |= {"HIAPI_WEBHOOK_SECRETS_OLD", *KEYS}
    told_apart |= {
        "ORCHESTRATOR_ADMIN_KEYS",
        "ORCHESTRATOR_REDIS_CLUSTER",
        "ORCHESTRATOR_NOTIFY_SECRET",
        "ORCHESTRATOR_NOTIFY_SECRETS_OLD",
        *("ORCHESTRATOR_MCP_API_URL", "ORCHESTRATOR_MCP_KEY", "ORCHESTRATOR_MCP_HOSTS"),
    }

    assert set(GOOD) | told_apart == asked
