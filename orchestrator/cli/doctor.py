"""`orchestrator doctor`: shows the checks of a deployment."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from orchestrator.cli.output import as_json, console, grid, print_json, stacked, styled
from orchestrator.operations.doctor import CheckResult, examine

_COLOURS = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


@click.command()
@as_json
def doctor(json_: bool) -> None:
    """Check this deployment: settings, archive, Redis, providers, broker, worker and beat, clock.

    Exit status 0 only if nothing is wrong; warnings are allowed.
    """
    results = list(examine())
    if json_:
        print_json([asdict(result) for result in results])
    else:
        _print(results)
    if any(result.mark == "wrong" for result in results):
        sys.exit(1)


def _print(results: list[CheckResult]) -> None:
    shown = grid()
    for result in results:
        parts = [(result.found, ""), *([(f"-> {result.fix}", "bold")] if result.fix else [])]
        mark = styled(result.mark, _COLOURS[result.mark])
        shown.add_row(mark, result.check, stacked(*parts))
    console().print(shown)
