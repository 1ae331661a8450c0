"""What holds for every command: its help, its usage line, and its refusals of numbers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.cli.number_options import Number, WholeNumber
from sandbox.__main__ import main as sandbox
from sandbox.number_options import Number as SandboxNumber
from sandbox.number_options import WholeNumber as SandboxWholeNumber
from tests.chaos.__main__ import main as chaos

#: Options whose range depends on the model. The check of the request names it.
RANGE_OF_THE_MODEL = {("enqueue", "--n"), ("enqueue", "--deadline-seconds")}


def commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and all commands below it, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, *path, name)


ALL = [
    (program, words, command)
    for program in (main, sandbox, chaos)
    for words, command in commands(program)
    if words != ("sandbox",)  # it becomes the program `sandbox`
]


def options_with_numbers() -> Iterator[tuple[click.Command, tuple[str, ...], click.Parameter]]:
    for program, words, command in ALL:
        for option in command.params:
            is_number = isinstance(option.type, type(click.INT) | type(click.FLOAT))
            if is_number and (*words[-1:], option.opts[0]) not in RANGE_OF_THE_MODEL:
                yield program, words, option


def test_every_command_has_help_under_both_names() -> None:
    for program, words, _ in ALL:
        for name in ("-h", "--help"):
            shown = CliRunner().invoke(program, [*words, name], prog_name="typed")

            assert shown.exit_code == 0, (words, shown.output)
            assert shown.output.startswith(" ".join(["Usage: typed", *words, ""]))


def test_every_help_fits_a_terminal_of_80_columns_and_cuts_no_summary() -> None:
    for program, words, _ in ALL:
        shown = CliRunner().invoke(program, [*words, "--help"], terminal_width=80).output

        assert [text for text in shown.splitlines() if len(text) > 80] == [], words
        commands_of_group = shown.partition("Commands:")[2]
        assert "..." not in commands_of_group, words


@pytest.mark.server
@pytest.mark.parametrize(
    ("module", "words"), [("orchestrator", ["sandbox"]), ("orchestrator", ["get"]), ("sandbox", [])]
)
def test_the_usage_line_names_what_was_typed(module: str, words: list[str]) -> None:
    command = [sys.executable, "-m", module, *words, "-h"]

    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert shown.startswith(" ".join(["Usage: python -m", module, *words, "["]))


def test_every_number_is_refused_with_its_option_its_value_and_its_range() -> None:
    options = list(options_with_numbers())
    for program, words, option in options:
        kind, name = option.type, option.opts[0]
        assert isinstance(kind, Number | WholeNumber | SandboxNumber | SandboxWholeNumber), name
        assert kind.min is not None
        ends = [str(end) for end in (kind.min, kind.max) if end is not None]
        beyond = [kind.min - 1] if kind.max is None else [kind.min - 1, kind.max + 1]
        for value in ("abc", "", "nan", "inf", *map(str, beyond)):
            refused = CliRunner().invoke(program, [*words, name, value])

            error_line = refused.output.splitlines()[-1]
            assert refused.exit_code == 2, (words, name, value)
            assert all(word in error_line for word in (f"'{name}'", f"'{value}'", *ends)), (
                error_line
            )

    assert len(options) > 15


def test_numbers_of_the_range_are_taken() -> None:
    for whole in (WholeNumber(1, 9), SandboxWholeNumber(1, 9)):
        assert [whole.convert(text, None, None) for text in ("1", "9")] == [1, 9]
    for number in (Number(0, 2), SandboxNumber(0, 2)):
        assert [number.convert(text, None, None) for text in ("0", "0.5", "2")] == [0, 0.5, 2]
