"""The options of commands that choose jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import click

from orchestrator.jobs.model import ErrorCode, Status
from orchestrator.operations.filters import FILTERS, FOLLOW_UP_STATUSES, METADATA
from orchestrator.providers import PROVIDERS

#: Longer lists of values are shown in the help of their option, which has line ends. Characters.
MAX_SHOWN_CHARACTERS = 75


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each filter that takes a value."""
    closed: Mapping[str, list[str]] = {
        "status": [s.value for s in Status],
        "provider": list(PROVIDERS),
        "error": [code.value for code in ErrorCode],
        **FOLLOW_UP_STATUSES,
    }
    command = click.option(
        "--metadata",
        multiple=True,
        metavar="KEY=VALUE",
        help="Only jobs with this value in their metadata. Repeat the option for more.",
    )(command)
    for name, meaning in reversed(list(FILTERS.items())):
        if name in ("unconfirmed", "at_risk") or name.startswith(METADATA):
            continue
        kind = click.Choice(closed[name]) if name in closed else None
        many = name in closed and len("|".join(closed[name])) > MAX_SHOWN_CHARACTERS
        option = click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=kind,
            metavar=name.upper() if many else None,
            help=f"{meaning} One of {', '.join(closed[name])}." if many else meaning,
        )
        command = option(command)
    return command


def metadata_filter(text: str) -> tuple[str, str]:
    """Return the filter of KEY=VALUE."""
    key, is_pair, value = text.partition("=")
    if not key or not is_pair:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--metadata")
    return f"{METADATA}{key}", value
