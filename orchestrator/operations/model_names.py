"""What one model name means, where a caller cannot name a provider besides it.

OpenAI's and Gemini's clients send one name. It is a name of ORCHESTRATOR_MODEL_ROUTES, or
`<provider>/<model>`, or a model or family that exactly one enabled provider has.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.jobs.request import Target
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation
from orchestrator.runtime import Runtime

#: The owner of the names in ORCHESTRATOR_MODEL_ROUTES, as lists of models show it.
ROUTES_OWNER = "orchestrator"


class ModelNotFound(InvalidRequest):
    """No enabled provider has the model, or several have it."""


def resolve_model(runtime: Runtime, name: str) -> tuple[Target, ...]:
    """Return the provider and the model of a name, and the fallbacks of its route.

    Raises:
        ModelNotFound: the name means nothing, or more than one thing.
    """
    route = runtime.settings.model_routes.get(name)
    if route:
        return route
    provider, slash, model = name.partition("/")
    if slash and model and provider in runtime.settings.providers:
        return (Target(provider, model),)
    offers = _offers(runtime, name)
    if len(offers) == 1:
        return (Target(offers[0], name),)
    names = [f"{each}/{name}" for each in offers]
    if names:
        choices = " or ".join(names)
        allowed = f"{choices}, because several providers have it; or set ORCHESTRATOR_MODEL_ROUTES"
        raise ModelNotFound(Violation("model", name, allowed))
    known = [each for each, _ in listed_models(runtime)]
    text = "a model of GET /v1/models, such as " + ", ".join(known[:3]) if known else _NONE
    raise ModelNotFound(Violation("model", name, OneOfNames(known, text)))


_NONE = "a model of an enabled provider; none is enabled, because no API key is set"


def listed_models(runtime: Runtime) -> Iterator[tuple[str, str]]:
    """Yield each name that `resolve_model` knows, and its owner."""
    for name in runtime.settings.model_routes:
        yield name, ROUTES_OWNER
    seen = dict[str, None]()
    for provider in runtime.settings.providers:
        adapter = runtime.providers[provider]
        for model in dict.fromkeys([*adapter.families, *adapter.models]):
            yield f"{provider}/{model}", provider
            seen[model] = None
    for model in seen:
        offers = _offers(runtime, model)
        if len(offers) == 1 and model not in runtime.settings.model_routes:
            yield model, offers[0]


def _offers(runtime: Runtime, name: str) -> list[str]:
    """Return the enabled providers that have a model or a family."""
    return [
        provider
        for provider in runtime.settings.providers
        if name in runtime.providers[provider].models
        or name in runtime.providers[provider].families
    ]
