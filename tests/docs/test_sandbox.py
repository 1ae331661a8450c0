"""The tables of docs/sandbox.md list every fault, option, field, call and provider."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from flask import Flask

from sandbox.__main__ import main
from sandbox.account_api import FIELDS as ACCOUNT_FIELDS
from sandbox.account_api import STATUSES
from sandbox.app import create_app
from sandbox.catalogue import CATALOGUE, REASONS
from sandbox.fault_kinds import Stage, ValueKind
from sandbox.inbox_faults import FIELDS as INBOX_FIELDS
from sandbox.link_faults import LINK_KINDS
from sandbox.registry import PROVIDERS
from sandbox.retry_after import RETRY_AFTER_FORMS
from sandbox.rule_format import FIELDS
from sandbox.settings import SandboxSettings
from sandbox.state import SandboxState
from tests.sandbox.kit import stored_task
from tests.support.cases import for_each

TEXT = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()


def _rows(header: str) -> list[list[str]]:
    """Return the cells of the table with this text in its first header cell."""
    (table,) = re.findall(rf"^\| {header} \|.*\n\|.*\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in table.splitlines()]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _first_column(header: str) -> list[str]:
    return [code for row in _rows(header) for code in _code(row[0])]


@pytest.fixture
def state() -> Iterator[SandboxState]:
    state = SandboxState(SandboxSettings())
    yield state
    state.stop()


@pytest.fixture
def app(state: SandboxState) -> Flask:
    return create_app(state)


def test_lists_every_fault_in_order() -> None:
    assert _first_column("fault") == [kind.syntax for kind in CATALOGUE.values()]


def test_submission_faults_are_the_first_ones_up_to_hang() -> None:
    stages = [kind.stage for kind in CATALOGUE.values()]

    assert list(CATALOGUE).index("hang") + 1 == stages.count(Stage.SUBMISSION)
    assert stages == sorted(stages, key=list(Stage).index)


def test_lists_every_reason_to_fail() -> None:
    (row,) = [row for row in _rows("fault") if "`fail[=CODE]`" in row[0]]

    assert _code(row[1]) == list(REASONS)


def test_lists_the_unsupported_faults_of_every_provider() -> None:
    assert {row[0]: _code(row[1]) for row in _rows("unsupported at")} == {
        provider.title: sorted(provider.unsupported_faults)
        for provider in PROVIDERS
        if provider.unsupported_faults
    }


def test_lists_every_field_of_a_rule() -> None:
    assert sorted(_first_column("field")) == sorted(FIELDS)


def test_lists_every_kind_of_a_failing_link_in_order() -> None:
    assert _first_column("kind") == [kind.syntax for kind in LINK_KINDS.values()]


@for_each(
    "name",
    [
        name
        for name, kind in CATALOGUE.items()
        if kind.choices and kind.value_kind is not ValueKind.STATUS and name != "image"
    ],
)
def test_lists_every_value_of_a_fault_in_order(name: str) -> None:
    choices = CATALOGUE[name].choices.values()

    assert [row[0] for row in _rows(f"`{name}`")] == [f"`{choice.syntax}`" for choice in choices]


def test_lists_every_form_of_a_wait() -> None:
    assert _first_column("`WAIT`") == list(RETRY_AFTER_FORMS)


def test_lists_every_field_of_an_account_fault() -> None:
    assert _first_column("account field") == list(ACCOUNT_FIELDS)
    assert _code(_rows("account field")[0][0]) == ["status"]
    assert re.findall(r"\d+", _rows("account field")[0][1]) == [str(one) for one in STATUSES]


def test_lists_every_field_of_a_limit(app: Flask) -> None:
    with app.test_client() as client:
        limits = client.get("/control/limits").get_json()

    assert _first_column("limit field") == list(limits["hiapi"])


def test_lists_every_field_of_an_inbox_fault() -> None:
    assert _first_column("inbox field") == list(INBOX_FIELDS)


def test_lists_every_field_of_a_notification(state: SandboxState, app: Flask) -> None:
    state.inbox.record("a", {}, b"")
    with app.test_client() as client:
        (notification,) = client.get("/control/inbox").get_json()

    assert sorted(_first_column("notification field")) == sorted(notification)


def test_lists_every_field_of_a_task(state: SandboxState, app: Flask) -> None:
    state.store.add(stored_task("tk", "evolink"))
    with app.test_client() as client:
        (task,) = client.get("/control/tasks").get_json()

    assert sorted(_first_column("task field")) == sorted(task)


def test_lists_every_option_and_its_variable() -> None:
    options = [option for option in main.params if isinstance(option, click.Option)]
    rows = _rows("option")

    assert [_code(row[0]) for row in rows] == [one.opts + one.secondary_opts for one in options]
    assert [_code(row[1]) for row in rows] == [[f"SANDBOX_{one.name}".upper()] for one in options]


def test_lists_every_route_without_a_key(app: Flask) -> None:
    routes = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(("/control", "/healthz", "/files", "/inbox"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert set(_first_column("call")) == routes


@for_each("provider", PROVIDERS)
def test_names_every_provider(provider: type) -> None:
    name, title = vars(provider)["name"], vars(provider)["title"]

    help_text = CliRunner().invoke(main, ["--help"]).output

    assert f"http://HOST:PORT/{name}" in help_text
    assert f"| {title} | `http://127.0.0.1:8700/{name}` |" in TEXT
    assert f"**{title}.**" in TEXT
