"""The output of commands: tables and lines for people, JSON for programs."""

from __future__ import annotations

import sys
from getpass import getuser
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from orchestrator.jsonio import dump

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

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON, for programs.")


def print_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    click.echo(dump(value))


#: The width of tables outside a terminal. Characters.
DEFAULT_WIDTH = 180


def actor() -> str:
    """Return who runs this command, for the audit trail: `cli:<user of the system>`."""
    try:
        return f"cli:{getuser()}"
    except (KeyError, OSError):  # the user has no name here
        return "cli"


def console() -> Console:
    """Return standard output: in colour at a terminal, otherwise plain and wide."""
    width = None if sys.stdout.isatty() else DEFAULT_WIDTH
    return Console(highlight=False, width=width)


def progress(*, quiet: bool) -> Progress:
    """Return a progress bar that disappears at its end. Without a terminal it shows nothing."""
    out = console()
    return Progress(console=out, transient=True, disable=quiet or not out.is_terminal)


def status(name: str) -> Text:
    """Return a status in its colour."""
    return Text(name, COLOURS.get(name, ""))


def table(*columns: str) -> Table:
    """Return a table with these columns."""
    result = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        result.add_column(column, no_wrap=True)
    return result
