"""`orchestrator providers`: the options, models, limits and state of each provider."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.admission import known_states, print_states
from orchestrator.cli.output import (
    as_json,
    console,
    exact,
    grid,
    line,
    lines,
    print_json,
    styled,
    table,
)
from orchestrator.jobs.request import UNIFIED_OPTIONS
from orchestrator.ledger import LedgerUnavailable
from orchestrator.operations.durations import duration_views
from orchestrator.providers import BROKEN, BUILT_IN, PROVIDERS, Provider
from orchestrator.providers.catalog import default_of, limits
from orchestrator.providers.listing import (
    FULL,
    REFUSED,
    alike,
    default_resolution,
    limit_text,
    markdown,
    price_of,
    support,
    view,
)
from orchestrator.providers.prices import PriceTable
from orchestrator.runtime import Runtime, default_runtime

_COLOURS = {FULL: "green", REFUSED: "red"}


@click.command()
@click.argument("name", required=False, type=click.Choice([*PROVIDERS, *BROKEN]))
@click.option("--markdown", "page", is_flag=True, help="Print docs/providers/README.md.")
@as_json
def providers(name: str | None, page: bool, json_: bool) -> None:
    """Show the options, limits and state of each provider, or the models of one.

    \b
    orchestrator providers
    orchestrator providers hiapi

    The state is that of the provider's circuit breaker: closed, open, half_open (one job probes the
    provider) or paused. See `orchestrator pause --help`. For one provider, a table shows how long
    the latest tasks of each model took. The first poll of a job is timed by that.
    """
    if page:
        lines(markdown(BUILT_IN.values()), end=False)
        return
    runtime = default_runtime()
    enabled = runtime.settings.providers
    prices = {name: settings.prices for name, settings in enabled.items()}
    shown = [PROVIDERS[name]] if name else list(PROVIDERS.values())
    states, problem = known_states(runtime, [provider.name for provider in shown])
    durations = _durations(runtime, [provider.name for provider in shown])
    if json_:
        views = [
            view(provider, on=provider.name in enabled, prices=prices.get(provider.name))
            | states[provider.name]
            | {"durations": durations.get(provider.name)}
            for provider in shown
        ]
        print_json(views[0] if name else {"providers": views})
    elif name:
        _print_models(name, prices.get(name))
    else:
        _print_matrix(set(enabled))
    if not json_:
        line()
        print_states(states)
        if name:
            _print_durations(durations.get(name, []))
    if problem:
        line(f"The state of providers is not known: Redis does not answer ({problem}).", err=True)


def _print_matrix(on: set[str]) -> None:
    shown = table("provider", "on", "callbacks", *UNIFIED_OPTIONS, "image_file")
    for provider in PROVIDERS.values():
        words_ = [support(provider, option) for option in UNIFIED_OPTIONS]
        words_.append(FULL if provider.capabilities.upload_field else REFUSED)
        shown.add_row(
            provider.name,
            "yes" if provider.name in on else "no",
            "yes" if provider.capabilities.callbacks else "no",
            *(styled(word, _COLOURS.get(word, "yellow")) for word in words_),
        )
    console().print(shown)
    lines(
        "\nfull: every model accepts every value. limited: see `orchestrator providers NAME`."
        " refused: a job with this option is refused at the enqueue.\nA provider is on when its"
        " API key is set in the environment: NAME_API_KEY."
    )


def _print_models(name: str, prices: PriceTable | None) -> None:
    provider, out = PROVIDERS[name], console()
    for names, model in alike(provider):
        out.print(styled(", ".join(names), "bold"))
        options = grid()
        for option in model.options:
            default = default_of(model, option)
            shown = f"; default {default}" if default else ""
            options.add_row("", option, f"{limit_text(limits(model, option))}{shown}")
        out.print(options)
    for family_name in provider.families:
        out.print(styled(family_name, "bold"), f"(family): {_family(provider, family_name)}")
    if prices:
        for model_name in provider.models:
            price = price_of(provider, model_name, prices)
            known = f"{exact(price['amount'])} {price['unit']}" if price else "unknown"
            out.print(
                styled(model_name, "bold"), f"(price of one image with the defaults): {known}"
            )
    if provider.unlisted:
        out.print(
            "Other models are accepted in the native form: the provider's own body in `request`."
        )


def _durations(runtime: Runtime, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return how long the tasks of providers took lately; nothing while Redis is away."""
    try:
        return duration_views(runtime, names)
    except LedgerUnavailable:
        return {}


def _print_durations(durations: list[dict[str, Any]]) -> None:
    if not durations:
        return
    shown = table("model", "latest results", "15 % within", "50 % within", "90 % within")
    for each in durations:
        seconds = (f"{each[f'p{part}_seconds']:g} s" for part in (15, 50, 90))
        shown.add_row(each["model"] or "all models", str(each["results"]), *seconds)
    console().print(shown)


def _family(provider: Provider, name: str) -> str:
    """Return the models of a family, its default resolution and its note."""
    family = provider.families[name]
    tiers = ", ".join(f"{tier}: {model}" for tier, model in family.tiers.items())
    resolution = default_resolution(provider, family)
    facts = [
        tiers or family.default,
        resolution and f"default resolution {resolution}",
        family.note,
    ]
    return "; ".join(filter(None, facts))
