"""`orchestrator report`: what was made and what it cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from orchestrator.cli.output import as_json, console, line, lines, print_json, table
from orchestrator.history.usage import DIMENSIONS
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.operations.usage import DEFAULT_DAYS, as_csv, usage_report
from orchestrator.runtime import default_runtime

#: The columns of the table after those of the group: heading and figure.
COLUMNS = {
    **{name: name for name in ("jobs", "succeeded", "failed", "images")},
    **{"reported": "cost_reported", "computed": "cost_computed", "unit": "unit"},
    **{"unknown": "cost_unknown_jobs", "callbacks": "callback_share"},
    **{"median s": "median_seconds", "p95 s": "p95_seconds"},
}

#: The options whose filter of the API has another name.
FILTERS = {"since": "created_after", "until": "created_before"}


@click.command()
@click.option(
    "--by",
    default="day,provider",
    show_default=True,
    metavar="NAMES",
    help=f"Group jobs by these, with commas: {', '.join(DIMENSIONS)}.",
)
@click.option(
    "--since",
    metavar="TIME",
    help=f"Jobs created since then: RFC 3339 or a date.  [default: {DEFAULT_DAYS} days ago]",
)
@click.option("--until", metavar="TIME", help="Jobs created before this time.")
@click.option("--tenant", help="Jobs of this tenant only.")
@click.option("--provider", help="Jobs of this provider only.")
@click.option("--model", help="Jobs of this model only.")
@click.option("--csv", "csv_", is_flag=True, help="Print CSV with a header line.")
@as_json
def report(by: str, csv_: bool, json_: bool, **chosen: str | None) -> None:
    """Show jobs, outcomes, images, costs and times.

    A cost was reported by the provider, computed from a price table, or is unknown. Every job is in
    one row, so rows may be added up. The figures come from the history.

    \b
    Examples:
      orchestrator report --since 2026-11-01
      orchestrator report --by tenant,provider --csv > november.csv
    """
    if csv_ and json_:
        raise click.UsageError("--csv and --json exclude each other; leave out one of them")
    filters = {
        FILTERS.get(name, name): value for name, value in chosen.items() if value is not None
    }
    try:
        figures = usage_report(default_runtime(), filters, [name for name in by.split(",") if name])
    except InvalidRequest as error:
        raise InvalidRequest(*map(_of_option, error.violations)) from None
    if json_:
        print_json(figures)
    elif csv_:
        lines(as_csv(figures).replace("\r\n", "\n"), end=False)
    else:
        _show(figures)
    if "incomplete" in figures and not json_:
        line(f"incomplete: {figures['incomplete']}", err=True)


def _of_option(violation: Violation) -> Violation:
    """Return a violation with the names of the options."""
    field, allowed = violation.field, violation.allowed
    for option, name in FILTERS.items():
        field = option if field == name else field
        if type(allowed) is str:  # another one is a list of names
            allowed = allowed.replace(name, option)
    return replace(violation, field=field, allowed=allowed)


def _show(figures: dict[str, Any]) -> None:
    shown = table(*figures["by"], *COLUMNS)
    for row in figures["rows"]:
        cells = [row[name] for name in (*figures["by"], *COLUMNS.values())]
        shown.add_row(*("" if cell is None else str(cell) for cell in cells))
    console().print(shown)
    if not figures["rows"]:
        line(f"no jobs from {figures['created_after']} to {figures['created_before']}")
