"""Tables of what providers accept, for people and programs. They are made from the adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from orchestrator.jobs.request import UNIFIED_OPTIONS, JobRequest
from orchestrator.providers.base import Provider
from orchestrator.providers.catalog import Family, Model, default_of, limits
from orchestrator.providers.prices import PriceTable

FULL, LIMITED, REFUSED = "full", "limited", "refused"
#: The limits that exclude values.
_BOUNDS = frozenset({"one_of", "max", "max_length"})


def view(provider: Provider, *, on: bool, prices: PriceTable | None = None) -> dict[str, Any]:
    """Return a provider as JSON-ready data.

    Args:
        provider: the adapter.
        on: whether this installation uses it.
        prices: the price table of this installation, if there is one.
    """
    return {
        "name": provider.name,
        "title": provider.title,
        "on": on,
        "capabilities": asdict(provider.capabilities),
        "poll_seconds": provider.poll_seconds,
        "max_poll_seconds": provider.max_poll_seconds,
        "takes_unlisted_models": provider.unlisted is not None,
        "support": {option: support(provider, option) for option in UNIFIED_OPTIONS},
        "models": [
            {
                "name": name,
                "options": {option: _option(model, option) for option in model.options},
                "price": price_of(provider, name, prices),
            }
            for name, model in provider.models.items()
        ],
        "families": [
            {
                "name": name,
                "model": family.default,
                "resolution": dict(family.tiers),
                "default_resolution": default_resolution(provider, family),
                "note": family.note or None,
                "price": price_of(provider, family.default, prices),
            }
            for name, family in provider.families.items()
        ],
    }


def support(provider: Provider, option: str) -> str:
    """Return `full`, `limited` (to some models or values) or `refused`."""
    accepting = [model for model in provider.models.values() if option in model.options]
    if not accepting:
        return REFUSED
    bounded = any(_BOUNDS & limits(model, option).keys() for model in accepting)
    return LIMITED if bounded or len(accepting) < len(provider.models) else FULL


def default_resolution(provider: Provider, family: Family) -> str | None:
    """Return the resolution of a family's request that sets none, or None if it is unknown."""
    for tier, model in family.tiers.items():
        if model == family.default:
            return tier
    return default_of(provider.models[family.default], "resolution")


def price_of(provider: Provider, model: str, prices: PriceTable | None) -> dict[str, Any] | None:
    """Return the price of one image of a model with the provider's defaults, or None."""
    if prices is None:
        return None
    cost = provider.price(JobRequest(provider.name, model, options={"prompt": "x"}), prices)
    return {"amount": cost.amount, "unit": cost.unit} if cost else None


def shared_models(provider: Provider) -> dict[str, list[str]]:
    """Return the models that several families share, with these families."""
    families: dict[str, list[str]] = {}
    for name, family in provider.families.items():
        families.setdefault(family.default, []).append(name)
    return {model: names for model, names in families.items() if len(names) > 1}


def limit_text(limit: Mapping[str, Any]) -> str:
    """Return a limit as a short text."""
    return "; ".join(_limit_parts(limit)) or "any"


def alike(provider: Provider) -> list[tuple[list[str], Model]]:
    """Return groups of model names that share one Model."""
    groups: list[tuple[list[str], Model]] = []
    for name, model in provider.models.items():
        for names, known in groups:
            if known is model:
                names.append(name)
                break
        else:
            groups.append(([name], model))
    return groups


def markdown(providers: Iterable[Provider]) -> str:
    """Return the page `docs/providers/README.md`."""
    shown = list(providers)
    return "\n".join([*_head(), *_matrix(shown), *_families(shown), *_models(shown)]) + "\n"


def _limit_parts(limit: Mapping[str, Any]) -> Iterator[str]:
    if "one_of" in limit:
        yield ", ".join(limit["one_of"])
    if "max_length" in limit:
        yield f"at most {limit['max_length']}"
    if "max" in limit:
        yield f"{limit.get('min', 0)} to {limit['max']}"
    elif "min" in limit:
        yield f"from {limit['min']}"


def _head() -> Iterator[str]:
    yield from (
        "# Providers",
        "",
        "`orchestrator providers --markdown` makes this page from the adapters. A test compares"
        " both.",
        "",
        "An option that a provider does not accept is refused by name before anything is sent.",
        "`provider_options` is merged into the provider's body last. Use it for fields that these"
        " options do not cover.",
    )


def _matrix(providers: list[Provider]) -> Iterator[str]:
    yield from ("", "## Options", "", *_row("option", *map(_linked, providers), rule=True))
    for option in UNIFIED_OPTIONS:
        yield from _row(f"`{option}`", *(support(p, option) for p in providers))
    facts: Mapping[str, Callable[[Provider], str]] = {
        "`image_file`": lambda p: FULL if p.capabilities.upload_field else REFUSED,
        "native `request`": lambda p: "any model" if p.unlisted else "listed models",
        "callbacks": _callbacks,
        "idempotent submission": lambda p: _hours(p.capabilities.idempotency_seconds),
        "links are valid for": lambda p: _hours(p.capabilities.links_live_seconds) or "unknown",
        "polled every": lambda p: f"{p.poll_seconds:g} to {p.max_poll_seconds:g} s",
    }
    for name, fact in facts.items():
        yield from _row(name, *(fact(p) or "no" for p in providers))
    yield from (
        "",
        f"{FULL}: every model accepts any value. {LIMITED}: some models, or the values below."
        f" {REFUSED}: the request is refused.",
        "`n` may always be 1. `jpg` and `jpeg` mean the same.",
    )


def _families(providers: list[Provider]) -> Iterator[str]:
    yield from (
        "",
        "## Families",
        "",
        "`model` may be a family name. The name means the same kind of model, not the same price or"
        " resolution. `GET /v1/providers` and `orchestrator providers NAME` show the default"
        " resolution, and the price if a price table is set.",
        "",
    )
    yield from _row("family", *map(_linked, providers), rule=True)
    for name in dict.fromkeys(name for p in providers for name in p.families):
        yield from _row(f"`{name}`", *(_family(p, name) for p in providers))
    yield from _row("default resolution", *map(_default_resolutions, providers))
    for provider in providers:
        for model, names in shared_models(provider).items():
            note = provider.families[names[0]].note
            yield from (
                "",
                f"At {provider.title}, {' and '.join(_ticked(names))} are the same model,"
                f" `{model}`, at the same price{note and f', {note}'}.",
            )


def _models(providers: list[Provider]) -> Iterator[str]:
    yield from ("", "## Models and their limits")
    for provider in providers:
        yield from (
            "",
            f"### {provider.title}",
            "",
            *_row("model", *_ticked(UNIFIED_OPTIONS), rule=True),
        )
        for names, model in alike(provider):
            cells = (
                limit_text(limits(model, o)) if o in model.options else REFUSED
                for o in UNIFIED_OPTIONS
            )
            yield from _row(", ".join(_ticked(names)), *cells)


def _family(provider: Provider, name: str) -> str:
    family = provider.families.get(name)
    if family is None:
        return REFUSED
    tiers = [f"{tier}: `{model}`" for tier, model in family.tiers.items()]
    return ", ".join(tiers) or f"`{family.default}`"


def _option(model: Model, option: str) -> dict[str, Any]:
    default = default_of(model, option)
    return limits(model, option) | ({"default": default} if default else {})


def _default_resolutions(provider: Provider) -> str:
    """Return the resolutions that the provider's families use without a `resolution`."""
    defaults = {default_resolution(provider, family) for family in provider.families.values()}
    return ", ".join(sorted(filter(None, defaults))) or "unknown"


def _callbacks(provider: Provider) -> str:
    can = provider.capabilities
    signed = "signed" if can.jwks_url else "signed, if a secret is set"
    return (signed if can.signed_callbacks or can.jwks_url else "yes") * can.callbacks


def _hours(seconds: int | None) -> str:
    return f"{seconds // 3600} h" if seconds else ""


def _linked(provider: Provider) -> str:
    return f"[{provider.title}]({provider.name}.md)"


def _ticked(names: Iterable[str]) -> list[str]:
    return [f"`{name}`" for name in names]


def _row(*cells: str, rule: bool = False) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"
    if rule:
        yield f"|{' --- |' * len(cells)}"
