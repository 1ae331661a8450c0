"""How commands print: tables and lines for people, JSON for programs."""

from __future__ import annotations

import sys
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
    """One JSON document on standard output."""
    click.echo(dump(value))


#: How wide tables are where no terminal says. Characters.
WIDE = 180


def console() -> Console:
    """Standard output; plain text, and wide, when it is not a terminal."""
    width = None if sys.stdout.isatty() else WIDE
    return Console(highlight=False, width=width)


def progress(*, quiet: bool) -> Progress:
    """A progress bar that goes when it is done; none where nobody watches."""
    out = console()
    return Progress(console=out, transient=True, disable=quiet or not out.is_terminal)


def status(name: str) -> Text:
    """A status in its colour."""
    return Text(name, COLOURS.get(name, ""))


def table(*columns: str) -> Table:
    """A table for people, with these columns."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=True)
    return made
