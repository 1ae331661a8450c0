""".env.example against what is really read, and with what really happens to a filled copy."""

from __future__ import annotations

import os
import re
from io import StringIO

import pytest
from dotenv import dotenv_values
from honcho.environ import parse

from orchestrator.cli.processes import DEFAULTS
from orchestrator.providers import BUILT_IN
from orchestrator.providers.prices import PriceTable
from orchestrator.runtime import Runtime
from orchestrator.settings.mcp_settings import McpSettings
from orchestrator.settings.settings import Settings
from tests.deployment.kit import example, services, text
from tests.support.providers import ENABLED, SIGNING
from webhooks.app import create_app

#: Read by the commands of the processes and by docker-compose.yml, not by Settings.
LISTENING = set(DEFAULTS)
#: Read by docker-compose.yml only.
COMPOSE = {"REDIS_MAXMEMORY", "REDIS_MEMORY_LIMIT", "POSTGRES_PASSWORD", "GRAFANA_ADMIN_PASSWORD"}
#: The provider that stands for all in the example.
SHOWN_PROVIDER = "hiapi"
WHSEC = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cy0zMi1ieXRlcyEh"
#: What a person would put into the blanks.
FILLED = {
    "ORCHESTRATOR_API_KEYS": "shop:3f786850e387550fdab836ed7e6dc881",
    "ORCHESTRATOR_ADMIN_KEYS": "ops:8e35c2cd3bf6641bdb0e2050b76932cb",
    "ORCHESTRATOR_PUBLIC_URL": "https://hooks.example.com",
    "ORCHESTRATOR_SECRET_KEY": "89e6c98d92887913cadf06b2adb97f26cde4849b",
    **ENABLED,
    **dict.fromkeys((f"{name.upper()}_WEBHOOK_SECRET" for name in SIGNING), WHSEC),
    "ORCHESTRATOR_NOTIFY_SECRET": WHSEC,
}


class Environment(dict[str, str]):
    """Notes the names that are asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)


def use(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return Settings.from_env()


def test_the_example_names_every_setting_that_is_read_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = tuple(f"{name.upper()}_" for name in BUILT_IN if name != SHOWN_PROVIDER)
    environment = Environment({**os.environ, **FILLED})
    monkeypatch.setattr(os, "environ", environment)
    Settings.from_env()
    McpSettings.from_env()
    expected = {name for name in environment.asked if not name.startswith(others)}
    assert set(example(with_defaults=True)) - LISTENING - COMPOSE == expected | set(FILLED)


def test_the_blanks_are_all_that_is_to_be_filled_in() -> None:
    assert {name for name, value in example().items() if not value} == set(FILLED)


def test_a_copy_with_its_blanks_filled_starts_the_web_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = use(monkeypatch, {**example(), **FILLED})
    app = create_app(Runtime.from_settings(settings))
    assert app.test_client().get("/healthz").status_code == 200
    assert set(settings.providers) == set(BUILT_IN)


def test_a_blank_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    unset = Settings.from_env()
    assert use(monkeypatch, example()) == unset


def test_what_is_commented_out_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = use(monkeypatch, FILLED)
    assert use(monkeypatch, {**example(with_defaults=True), **FILLED}) == defaults


def test_every_reader_of_the_file_reads_the_same() -> None:
    filled = text(".env.example")
    for name, value in FILLED.items():
        filled = filled.replace(f"\n{name}=\n", f"\n{name}={value}\n")
    assert parse(filled) == dotenv_values(stream=StringIO(filled)) == {**example(), **FILLED}


def test_the_price_table_that_it_shows_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = re.findall(r"(?m)^#   (HIAPI_PRICES=.*)$", text(".env.example"))
    shown = parse(line)
    assert shown == dotenv_values(stream=StringIO(line))
    prices = use(monkeypatch, {**FILLED, **shown}).providers[SHOWN_PROVIDER].prices
    assert isinstance(prices, PriceTable)
    assert [prices.of("Nano-Banana-2", [tier]) for tier in ("1K", "4K")] == [0.04, 0.08]


@pytest.mark.parametrize("variable", sorted(LISTENING))
def test_the_example_shows_the_defaults_of_the_processes(variable: str) -> None:
    assert example()[variable] == DEFAULTS[variable]


def test_the_compose_file_publishes_web_where_the_example_says() -> None:
    [published] = services()["web"]["ports"]
    shown = [f"${{{name}:-{example()[name]}}}" for name in ("HOST", "PORT")]
    assert published == f"{':'.join(shown)}:8080"


@pytest.mark.parametrize("variable", sorted(COMPOSE))
def test_the_example_shows_the_defaults_of_the_compose_file(variable: str) -> None:
    default = example(with_defaults=True)[variable]
    assert f"${{{variable}:-{default}}}" in text("docker-compose.yml")
