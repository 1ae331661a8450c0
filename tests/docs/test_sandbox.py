"""docs/sandbox.md says what is there: every fault, option, control route and provider."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sandbox.__main__ import main
from sandbox.app import create_app
from sandbox.faults import CATALOGUE, REASONS, Stage
from sandbox.inbox_faults import FIELDS as INBOX_FIELDS
from sandbox.link_faults import LINK_KINDS
from sandbox.registry import PROVIDERS
from sandbox.rule_format import FIELDS
from sandbox.settings import SandboxSettings
from sandbox.state import SandboxState

TEXT = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()


def _first_column(header: str) -> list[str]:
    """The code in the first column of the table that begins with this header."""
    table = TEXT[TEXT.index(f"| {header} |") :].split("\n\n", maxsplit=1)[0]
    cells = [row.split(" | ")[0] for row in table.splitlines()[2:]]
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


def test_lists_every_fault_in_order() -> None:
    assert _first_column("fault") == [kind.syntax for kind in CATALOGUE.values()]


def test_the_first_seven_faults_are_those_of_the_submission() -> None:
    stages = [kind.stage for kind in CATALOGUE.values()]

    assert "The first seven are about one submission" in TEXT
    assert stages.index(Stage.TASK) == stages.count(Stage.SUBMISSION) == 7


def test_lists_every_field_of_a_rule() -> None:
    assert sorted(set(_first_column("field"))) == sorted(FIELDS)


def test_lists_every_kind_of_a_broken_link_in_order() -> None:
    assert _first_column("kind") == [kind.syntax for kind in LINK_KINDS.values()]


def test_lists_every_field_of_a_broken_inbox() -> None:
    assert _first_column("inbox field") == list(INBOX_FIELDS)


def test_names_every_field_of_a_notification() -> None:
    state = SandboxState(SandboxSettings())
    state.inbox.record("a", {}, b"")
    with create_app(state).test_client() as client:
        (shown,) = client.get("/control/inbox").get_json()
    state.stop()
    text = TEXT[TEXT.index("A notification has") :].split("\n\n", maxsplit=1)[0]

    assert set(re.findall(r"`(\w+)`", text)) >= set(shown)


def test_lists_every_reason_to_fail() -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith("| `fail[=CODE]`"))

    assert re.findall(r"`(\w+)`", row) == list(REASONS)


def test_lists_every_option() -> None:
    options = [
        name
        for option in main.params
        if isinstance(option, click.Option)
        for name in option.opts + option.secondary_opts
    ]

    assert _first_column("option") == options


def test_lists_every_control_route() -> None:
    state = SandboxState(SandboxSettings())
    rules = create_app(state).url_map.iter_rules()
    state.stop()
    routes = {
        f"{method} {rule.rule}"
        for rule in rules
        if rule.rule.startswith(("/control", "/healthz", "/files", "/inbox"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert set(_first_column("call")) == routes


@pytest.mark.parametrize("provider", PROVIDERS)
def test_names_every_provider(provider: type) -> None:
    name, title = vars(provider)["name"], vars(provider)["title"]

    help_text = CliRunner().invoke(main, ["--help"]).output

    assert f"http://HOST:PORT/{name}" in help_text
    assert f"| {title} | `http://127.0.0.1:8700/{name}` |" in TEXT
    assert f"**{title}.**" in TEXT
