"""The output of commands: tables and lines for people, JSON for programs.

Every command writes through this module. It shows text from outside as it is, without the markup of
rich, and with an escape sequence in place of each character that does not print.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from getpass import getuser
from time import monotonic
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.table import Table
from rich.text import Text

from orchestrator.jsonio import dump
from orchestrator.operations.unreadable_jobs import unreadable_line
from orchestrator.plain_text import escaped, escaped_json

#: Statuses in their colours.
COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "unconfirmed": "magenta",
    "running": "cyan",
    "submitting": "cyan",
    "queued": "blue",
}

#: The type of a table, for annotations.
Rows = Table

#: The columns with ids. Another command takes an id, so it is shown whole in every width.
ID_COLUMNS = frozenset({"batch", "bulk action", "id", "job", "message", "target"})
#: The least width of another column that is shortened. Characters.
MIN_WIDTH = 4

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON, for programs.")


#: The shortest time between two lines about progress outside a terminal. Seconds.
LINE_SECONDS = 5.0
#: The width of tables outside a terminal. Characters.
DEFAULT_WIDTH = 180
#: The longest first sentence of a command. Characters.
MAX_SUMMARY_CHARACTERS = 200
#: Cells of a column of numbers. It is aligned at the right.
_NUMBER = re.compile(r"-?[0-9][0-9,]*(\.[0-9]+)?")
#: Wider than every cell. Characters.
_UNLIMITED_WIDTH = 1_000_000


def actor() -> str:
    """Return who runs this command, for the audit trail: `cli:<user of the system>`."""
    try:
        return f"cli:{getuser()}"
    except (KeyError, OSError):  # the user has no name here
        return "cli"


class PlainConsole(Console):
    """A console that prints strings as they are: no markup, no emoji codes, no controls."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as it is, with escapes, also for newlines: they forge lines."""
        justify, overflow = options.get("justify"), options.get("overflow")
        return Text(escaped(text), options.get("style") or "", justify=justify, overflow=overflow)


def print_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    click.echo(escaped_json(dump(value).decode()))


def line(text: str = "", *, err: bool = False) -> None:
    """Print one line. It may hold text from outside."""
    click.echo(escaped(text), err=err)


def show_table(shown: Table, *, empty: str, below: str = "") -> None:
    """Print a table, and a line below it. Without a row, standard error says what is missing."""
    console().print(shown)
    if not shown.row_count:
        line(empty, err=True)
    elif below:
        line(below)


def exact(value: float) -> str:
    """Return an amount or a limit with all of its digits, such as 1234567.25."""
    return f"{value:.15g}"


def lines(text: str, *, end: bool = True) -> None:
    """Print text of several lines. It may hold text from outside only where that has no newline."""
    click.echo(escaped(text, keep="\n"), nl=end)


def tell_unreadable(job_ids: list[str]) -> None:
    """Say on standard error which jobs a list lacks, because this version cannot read them."""
    if job_ids:
        line(unreadable_line(job_ids), err=True)


def console() -> PlainConsole:
    """Return standard output: in colour at a terminal, otherwise plain and wide."""
    width = None if sys.stdout.isatty() else DEFAULT_WIDTH
    return PlainConsole(highlight=False, markup=False, emoji=False, width=width)


def live(out: PlainConsole) -> Live:
    """Return a display that is drawn again and again, and disappears at its end."""
    return Live(console=out, refresh_per_second=10, transient=True)


def has_terminal() -> bool:
    """Return whether somebody can be asked."""
    return sys.stdin.isatty()


def progress(*, quiet: bool) -> Progress:
    """Return a progress bar that disappears at its end. Without a terminal it shows nothing."""
    out = console()
    return Progress(console=out, transient=True, disable=quiet or not out.is_terminal)


class _RateColumn(ProgressColumn):
    """How much is done in a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s")


@contextmanager
def counting(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show how many things are done, and how fast. Yield a function that takes the new number.

    A terminal shows a bar that disappears at its end. Elsewhere there are lines on standard error,
    at most one in LINE_SECONDS.
    """
    out = PlainConsole(stderr=True, highlight=False, markup=False, emoji=False)
    if quiet:
        yield lambda _: None
    elif out.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn()
        with Progress(*columns, console=out, transient=True) as shown:
            bar = shown.add_task(what, total=total)
            yield lambda number: shown.update(bar, completed=number)
    else:
        yield _line_writer(what, total)


def _line_writer(what: str, total: int) -> Callable[[int], None]:
    started = last = monotonic()

    def write(number: int) -> None:
        nonlocal last
        now = monotonic()
        if now - last >= LINE_SECONDS or number == total:
            last = now
            line(f"{what}: {number} of {total}, {number / (now - started or 1):,.0f}/s", err=True)

    return write


def status(name: str) -> Text:
    """Return a status in its colour."""
    return styled(name, COLOURS.get(name, ""))


def styled(text: str, style: str) -> Text:
    """Return text in a colour or another style of rich."""
    return Text(escaped(text), style)


def stacked(*parts: tuple[str, str]) -> Text:
    """Return several lines for one cell, each with its style."""
    return Text("\n").join(styled(text, style) for text, style in parts)


class Group(click.Group):
    """A group of commands whose list has the whole first sentence of each command."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of the commands, with line ends in the place of dots."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(MAX_SUMMARY_CHARACTERS))
                    for name, command in commands.items()
                    if command and not command.hidden
                ]
            )


class _AlignedTable(Table):
    """A table whose numbers are aligned at the right."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for column in self.columns:
            cells = [text for text in map(str, column.cells) if text]
            if cells and all(_NUMBER.fullmatch(text) for text in cells):
                column.justify = "right"
        return super().__rich_console__(console, options)


class _Table(_AlignedTable):
    """A table that shortens its widest columns first, and ids never.

    When the other columns have their least width, the end of each line is cut off.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for column, width in zip(self.columns, self._widths(console, options), strict=True):
            column.min_width = column.max_width = width
        return super().__rich_console__(console, options)

    def _widths(self, console: Console, options: ConsoleOptions) -> list[int]:
        unlimited = options.update(width=_UNLIMITED_WIDTH)
        widths = [
            max(console.measure(cell, options=unlimited).maximum for cell in (c.header, *c.cells))
            for c in self.columns
        ]
        padding = sum(self.padding[1::2]) * len(widths)
        flexible = [n for n, c in enumerate(self.columns) if c.header not in ID_COLUMNS]
        excess = sum(widths) + padding - options.max_width
        while flexible and excess > 0:
            widest = max(flexible, key=widths.__getitem__)
            if widths[widest] <= MIN_WIDTH:
                break
            widths[widest] -= 1
            excess -= 1
        return widths


def table(*columns: str, padding: tuple[int, int, int, int] = (0, 2, 0, 0)) -> Table:
    """Return a table with these columns. A terminal that is too narrow does not shorten an id."""
    result = _Table(box=None, padding=padding, header_style="bold")
    for column in columns:
        result.add_column(column, no_wrap=True)
    return result


def grid() -> Table:
    """Return a table without a header."""
    return _AlignedTable.grid(padding=(0, 2))
