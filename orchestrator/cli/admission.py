"""`orchestrator pause` and `resume`: stop the submissions to a provider, and let them go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from orchestrator.cli.output import actor, as_json, console, exact, line, print_json, styled, table
from orchestrator.ledger import LedgerUnavailable
from orchestrator.ledger.admission import CircuitState
from orchestrator.operations.admission import (
    admission_views,
    pause_provider,
    resume_provider,
    unknown_view,
)
from orchestrator.runtime import Runtime, default_runtime

_COLOURS = {CircuitState.CLOSED: "green", CircuitState.HALF_OPEN: "yellow"}


@click.command()
@click.argument("provider")
@click.option("--reason", default="", metavar="TEXT", help="Why; shown with the state.")
@as_json
def pause(provider: str, reason: str, json_: bool) -> None:
    """Stop the submissions to a provider until it is resumed.

    \b
    orchestrator pause hiapi --reason "maintenance until 15:00"
    orchestrator resume hiapi

    Its jobs stay queued and are not charged. A job that still waits at its deadline fails. Polls
    and callbacks go on, so submitted jobs reach their outcomes. The pause holds for all workers,
    also after a restart. `orchestrator providers` shows it, and `orchestrator audit` who paused.
    """
    view = pause_provider(default_runtime(), provider, actor=actor(), reason=reason)
    if json_:
        print_json({"name": provider, **view})
    else:
        line(f"{provider} is paused. Continue with: orchestrator resume {provider}")


@click.command()
@click.argument("provider")
@as_json
def resume(provider: str, json_: bool) -> None:
    """End the pause of a provider. This also closes an open circuit breaker.

    \b
    orchestrator resume hiapi

    Use it, too, after you corrected what opened the circuit breaker, such as a wrong API key. The
    waiting jobs are submitted at once, within the limits of the provider.
    """
    view = resume_provider(default_runtime(), provider, actor=actor())
    if json_:
        print_json({"name": provider, **view})
    else:
        line(f"{provider} gets submissions again.")


def known_states(
    runtime: Runtime, names: Iterable[str]
) -> tuple[dict[str, dict[str, Any]], LedgerUnavailable | None]:
    """Return the views of providers, and the error if their state is not known."""
    shown = list(names)
    try:
        return admission_views(runtime, shown), None
    except LedgerUnavailable as error:
        return {name: unknown_view(runtime, name) for name in shown}, error


def print_states(views: Mapping[str, dict[str, Any]]) -> None:
    """Print the limits and the state of providers as a table."""
    columns = ("max in flight", "per second", "burst", "in flight", "found limit")
    shown = table("provider", "state", *columns, "until", "paused by", "reason")
    for name, view in views.items():
        limits, circuit = view["limits"], view["circuit"]
        numbers = (
            *(limits["max_in_flight"], limits["requests_per_second"], limits["burst"]),
            *(view["in_flight"], view["found_limit"]),
        )
        shown.add_row(
            name,
            styled(circuit or "unknown", _COLOURS.get(circuit, "red" if circuit else "")),
            *("" if number is None else exact(number) for number in numbers),
            view["until"] or "",
            view["paused_by"] or "",
            _reason(view["reason"]),
        )
    console().print(shown)


def _reason(reason: dict[str, str] | None) -> str:
    if reason is None:
        return ""
    return f"{reason['code']}: {reason['message']}" if reason["message"] else reason["code"]
