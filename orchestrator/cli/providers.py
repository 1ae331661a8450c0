"""`orchestrator providers`: the options and models of each provider."""

from __future__ import annotations

import click
from rich.table import Table

from orchestrator.cli.output import as_json, console, print_json
from orchestrator.jobs.model import UNIFIED_OPTIONS
from orchestrator.providers import BUILT_IN, PROVIDERS, Provider
from orchestrator.providers.catalog import default_of, limits
from orchestrator.providers.listing import (
    FULL,
    REFUSED,
    alike,
    default_resolution,
    markdown,
    price_of,
    support,
    view,
    words,
)
from orchestrator.providers.prices import PriceTable
from orchestrator.settings.settings import Settings

_COLOURS = {FULL: "green", REFUSED: "red"}


@click.command()
@click.argument("name", required=False, type=click.Choice(list(PROVIDERS)))
@click.option("--markdown", "page", is_flag=True, help="Print docs/providers/README.md.")
@as_json
def providers(name: str | None, page: bool, json_: bool) -> None:
    """Show the options of each provider, or the models and limits of one.

    \b
    orchestrator providers
    orchestrator providers hiapi
    """
    if page:
        click.echo(markdown(BUILT_IN.values()), nl=False)
        return
    enabled = Settings.from_env().providers
    prices = {name: settings.prices for name, settings in enabled.items()}
    shown = [PROVIDERS[name]] if name else list(PROVIDERS.values())
    if json_:
        views = [
            view(provider, on=provider.name in enabled, prices=prices.get(provider.name))
            for provider in shown
        ]
        print_json(views[0] if name else {"providers": views})
    elif name:
        _print_models(name, prices.get(name))
    else:
        _print_matrix(set(enabled))


def _print_matrix(on: set[str]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("provider", "on", "callbacks", *UNIFIED_OPTIONS, "image_file"):
        table.add_column(column, no_wrap=True)
    for provider in PROVIDERS.values():
        words_ = [support(provider, option) for option in UNIFIED_OPTIONS]
        words_.append(FULL if provider.capabilities.upload_field else REFUSED)
        table.add_row(
            provider.name,
            "yes" if provider.name in on else "no",
            "yes" if provider.capabilities.callbacks else "no",
            *(f"[{_COLOURS.get(word, 'yellow')}]{word}[/]" for word in words_),
        )
    console().print(table)
    click.echo(
        "\nfull: every model accepts every value. limited: see `orchestrator providers NAME`."
        " refused: a job with this option is refused at the enqueue.\nA provider is on when its"
        " API key is set in the environment: NAME_API_KEY."
    )


def _print_models(name: str, prices: PriceTable | None) -> None:
    provider, out = PROVIDERS[name], console()
    for names, model in alike(provider):
        out.print(f"[bold]{', '.join(names)}[/]")
        table = Table.grid(padding=(0, 2))
        for option in model.options:
            default = default_of(model, option)
            shown = f"; default {default}" if default else ""
            table.add_row("", option, f"{words(limits(model, option))}{shown}")
        out.print(table)
    for family_name in provider.families:
        out.print(f"[bold]{family_name}[/] (family): {_family(provider, family_name)}")
    if prices:
        for model_name in provider.models:
            price = price_of(provider, model_name, prices)
            known = f"{price['amount']:g} {price['unit']}" if price else "unknown"
            out.print(f"[bold]{model_name}[/] (price of one image with the defaults): {known}")
    if provider.unlisted:
        out.print(
            "Other models are accepted in the native form: the provider's own body in `request`."
        )


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
