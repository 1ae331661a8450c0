"""Reads ORCHESTRATOR_MODEL_ROUTES: which provider and model a name of a caller means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.jobs.request import Target
from orchestrator.jobs.schemas import MAX_FALLBACKS
from orchestrator.jobs.validation import nearest
from orchestrator.providers import PROVIDERS
from orchestrator.settings.environment import EnvironmentReader, invalid_setting

NAME = "ORCHESTRATOR_MODEL_ROUTES"
_FORM = "NAME=PROVIDER/MODEL, with | before each fallback and a comma between two names"

#: The provider that is tried first, and its fallbacks, by the name that a caller writes.
Routes = Mapping[str, tuple[Target, ...]]


def read_model_routes(env: EnvironmentReader) -> Routes:
    """Return the routes.

    Raises:
        ConfigError: the variable has another form, or names what does not exist.
    """
    routes: dict[str, tuple[Target, ...]] = {}
    for item in env.items(NAME):
        name, targets = _route(item)
        if name in routes:
            raise invalid_setting(NAME, item, "a list that names each model once")
        routes[name] = targets
    return routes


def _route(item: str) -> tuple[str, tuple[Target, ...]]:
    name, _, listed = (part.strip() for part in item.partition("="))
    parts = [tuple(each.strip().partition("/")[::2]) for each in listed.split("|")]
    if not name or not all(provider and model for provider, model in parts):
        raise invalid_setting(NAME, item, _FORM)
    targets = tuple(Target(provider, model) for provider, model in parts)
    for target in targets:
        _check_target(item, target)
    if len({target.provider for target in targets}) < len(targets):
        raise invalid_setting(NAME, item, "routes that name each provider once")
    if len(targets) > MAX_FALLBACKS + 1:
        raise invalid_setting(NAME, item, f"routes with at most {MAX_FALLBACKS} fallbacks")
    return name, targets


def _check_target(item: str, target: Target) -> None:
    adapter = PROVIDERS.get(target.provider)
    if adapter is None:
        allowed = f"routes to {_near(target.provider, PROVIDERS)}"
        raise invalid_setting(NAME, item, allowed)
    names = [*adapter.families, *adapter.models]
    if target.model not in names:
        allowed = f"routes to models of {target.provider}: {_near(target.model, names)}"
        raise invalid_setting(NAME, item, allowed)


def _near(name: str, names: Iterable[str]) -> str:
    near = nearest(name, names)
    return f"{', '.join(names)}{(near and f' (did you mean {near}?)') or ''}"
