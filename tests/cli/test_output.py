"""Commands show text from outside as it is: no markup, no control characters, no forged lines."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main, output
from orchestrator.cli.output import PlainConsole
from orchestrator.jobs.model import ErrorCode, JobError, Outcome, Status, Step
from orchestrator.jobs.request import JobRequest
from tests.support.fakes import Harness

#: A text that breaks tables, hides what follows, and adds a line.
HOSTILE = "x[/y] [bold] :smile: \x1b[2J\x1b]0;t\x07 \x9b1m \u202e evil\njob_forged"
PACKAGE = Path(output.__file__).parent


@pytest.fixture
def hostile(harness: Harness) -> str:
    """A failed job with hostile text in its model, its error and its metadata."""
    request = JobRequest(
        "hiapi", HOSTILE, {"prompt": HOSTILE}, metadata={"a": HOSTILE}, notify_stream=HOSTILE
    )
    now = harness.clock.now
    created = harness.ledger.create(request, now=now, deadline_at=now + 1000)
    job_id = created.job_id
    error = JobError(ErrorCode.DEADLINE_EXCEEDED, HOSTILE)
    harness.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=1000)
    outcome = Outcome(Status.FAILED, error=error)
    harness.ledger.settle_attempt(job_id, 1, "task-1", outcome, now=now)
    assert harness.job(job_id).status == "failed"
    return job_id


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


COMMANDS = [
    ["list"],
    ["list", "--json"],
    ["list", "--unconfirmed"],
    ["list", "--at-risk"],
    ["get", "JOB"],
    ["get", "JOB", "--json"],
    ["watch", "JOB"],
    ["watch", "JOB", "--json"],
    ["cancel", "JOB"],
    ["retry", "JOB"],
    ["notify", "JOB"],
    ["notify", "--dead", "--list"],
    ["stats"],
    ["verify"],
    ["verify", "--json"],
    ["get", HOSTILE],
    ["get", "--celery-id", HOSTILE],
    [HOSTILE],
    ["list", "--provider", HOSTILE],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: ascii(" ".join(each))[:40])
def test_no_command_writes_a_control_character(hostile: str, arguments: list[str]) -> None:
    ran = run(*(hostile if argument == "JOB" else argument for argument in arguments))

    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    shown = ran.output + ran.stderr
    assert [line for line in shown.split("\n") if not line.isprintable()] == []
    assert not any(line.strip().startswith("job_forged") for line in shown.split("\n"))


def test_a_model_name_with_markup_is_shown_as_it_is(hostile: str) -> None:
    assert "x[/y] [bold] :smile:" in run("list").output
    assert "x[/y] [bold] :smile:" in run("get", hostile).output


def modules() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            yield path.name, node


def test_every_command_writes_through_the_output_module() -> None:
    """A command that writes by itself shows text from outside without escapes."""
    by_themselves = {
        name
        for name, node in modules()
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rich"))
        or (isinstance(node, ast.Import) and node.names[0].name.startswith("rich"))
        or (isinstance(node, ast.Attribute) and node.attr in {"echo", "secho", "echo_via_pager"})
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.stdout.write")
        or (isinstance(node, ast.Name) and node.id == "print")
    }

    assert by_themselves == {"output.py"}


def test_an_error_of_a_command_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def fails() -> Any:
        raise click.ClickException(f"the job {HOSTILE} is unknown")

    monkeypatch.setitem(main.commands, "fails", fails)

    assert "\x1b" not in run("fails").stderr


def shown_at(width: int, table: output.Rows) -> list[str]:
    """Return the lines of a table, as a terminal of this width shows them."""
    console = PlainConsole(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 180])
def test_a_table_shows_ids_whole_in_every_width(width: int) -> None:
    job_id = "job_01m8mn637ynckqwaqd7fzt2c3201"
    table = output.table("job", "provider", "error")
    table.add_row(job_id, "hiapi", "an error of many words " * 20)

    heading, row = shown_at(width, table)

    assert row.split()[0] == job_id
    assert heading.split()[0] == "job"
    assert max(map(len, (heading, row))) <= width


def test_a_table_shortens_its_widest_column_first() -> None:
    table = output.table("message", "arrived", "reason")
    table.add_row("1795989678182-0", "2026-11-29T22:01:18.000Z", "an error of many words " * 20)

    assert "2026-11-29T22:01:18.000Z" in shown_at(80, table)[1]


def test_numbers_are_aligned_at_the_right_and_texts_at_the_left() -> None:
    table = output.table("provider", "jobs", "cost", "found limit")
    table.add_row("hiapi", "7", "0.04", "")
    table.add_row("fal", "1304", "12.5", "10")

    first, second = shown_at(80, table)[1:]

    assert first.split() == ["hiapi", "7", "0.04"]
    assert first.index("7") == second.index("1304") + 3
    assert first.index("0.04") == second.index("12.5")
    assert second.startswith("fal ")
    grid = output.grid()
    grid.add_row("queued", "5")
    grid.add_row("succeeded", "4831")
    assert [row.index(end) for row, end in zip(shown_at(80, grid), "51", strict=True)] == [14, 14]


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--status", "failed"],
        ["list", "--unconfirmed"],
        ["list", "--at-risk"],
        ["keys", "list"],
        ["rejected", "list"],
        ["audit"],
        ["bulk", "list"],
        ["notify", "--dead", "--list"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("harness")
def test_a_list_without_a_row_says_so_beside_its_heading(arguments: list[str]) -> None:
    shown = run(*arguments)

    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) == 1
    assert shown.stderr.startswith(("No ", "Nobody "))


@pytest.mark.parametrize(
    ("value", "text"), [(50, "50"), (0.04, "0.04"), (0.1 + 0.2, "0.3"), (1234567.25, "1234567.25")]
)
def test_an_amount_has_all_of_its_digits(value: float, text: str) -> None:
    assert output.exact(value) == text


def test_an_id_in_the_middle_of_a_table_is_whole_too() -> None:
    table = output.table("at", "target", "detail")
    table.add_row("2026-11-29T22:01:18.000Z", "job_01m8mn637ynckqwaqd7fzt2c3201", "d " * 80)

    assert "job_01m8mn637ynckqwaqd7fzt2c3201" in shown_at(60, table)[1]


def test_an_option_that_an_operation_refuses_is_a_wrong_option(hostile: str) -> None:
    """The exit status is that of an option that the command line itself refuses."""
    refused = [
        run("enqueue", "--provider", "hiapi", "--model", "Nano-Banana-2", "--prompt", "x", "--n=0"),
        run("list", "--created-after", "soon"),
        run("report", "--by", "hour"),
        run("dashboard-link", "--tenant", "a b"),
        run("list", "--limit", "0"),
    ]

    assert [result.exit_code for result in refused] == [2] * len(refused)
    assert run("get", "job_x").exit_code == 1


def test_a_report_without_a_time_between_its_ends_names_both(hostile: str) -> None:
    shown = run("report", "--since", "2026-11-02", "--until", "2026-11-01")

    assert shown.exit_code == 2
    assert shown.output == (
        "Error: since must be earlier than until, which is 2026-11-01T00:00:00.000Z;"
        ' got "2026-11-02T00:00:00.000Z"\n'
    )


def test_a_report_has_one_form(hostile: str) -> None:
    assert "--csv and --json exclude each other" in run("report", "--csv", "--json").output


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense"])
def test_a_sandbox_that_cannot_be_asked_is_named_in_plain_words(hostile: str, url: str) -> None:
    refused = run("verify", "--sandbox", url)

    assert refused.exit_code == 1
    assert f"--sandbox: {url} returned no list of tasks: " in refused.output
    assert "Pool" not in refused.output
    assert "Start the sandbox" in refused.output
