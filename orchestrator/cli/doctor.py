"""`orchestrator doctor`: shows the checks of a deployment."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from orchestrator.cli.output import as_json, console, grid, print_json, stacked, styled
from orchestrator.operations.doctor import CheckResult, examine

#: Of the columns. Results are shown one by one, so the columns cannot fit themselves. Characters.
_WIDTHS = (7, 13, None)
_COLOURS = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


@click.command()
@as_json
def doctor(json_: bool) -> None:
    """Check this deployment by using its parts.

    Writes and deletes a file in the archive. Runs a script in each shard of Redis, and sends a
    message through a channel. Sends a message through each queue to the process that reads it, and
    a request through the public URL to web. Looks at settings, versions, clocks, the history and
    the processes. It submits nothing to a provider. It takes some seconds, at most a minute.

    Exit status 0 only if nothing is wrong; warnings are allowed.
    """
    results: list[CheckResult] = []
    for result in examine():
        results.append(result)
        if not json_:
            _print(result)
    if json_:
        print_json([asdict(result) for result in results])
    if any(result.mark == "wrong" for result in results):
        sys.exit(1)


def _print(result: CheckResult) -> None:
    shown = grid()
    for width in _WIDTHS:
        shown.add_column(width=width)
    parts = [(result.found, ""), *([(f"-> {result.fix}", "bold")] if result.fix else [])]
    mark = styled(result.mark, _COLOURS[result.mark])
    shown.add_row(mark, result.check, stacked(*parts))
    console().print(shown)
