"""What a model name means, where no provider is named besides it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.jobs.request import Target
from orchestrator.operations.model_names import ModelNotFound, listed_models, resolve_model
from tests.support.fakes import Harness

ROUTES = "ORCHESTRATOR_MODEL_ROUTES"


def test_a_name_with_its_provider_means_that_one(start: Callable[..., Harness]) -> None:
    runtime = start().runtime

    assert resolve_model(runtime, "hiapi/Nano-Banana-2") == (Target("hiapi", "Nano-Banana-2"),)
    assert resolve_model(runtime, "hiapi/any/model") == (Target("hiapi", "any/model"),)


def test_a_route_has_fallbacks_and_comes_first(start: Callable[..., Harness]) -> None:
    first = "gpt-image-1 = uniall/gpt-image-2 | hiapi/Nano-Banana-2"
    runtime = start(**{ROUTES: f"{first}, Nano-Banana-2=evolink/nano-banana-2"}).runtime

    assert resolve_model(runtime, "gpt-image-1") == (
        Target("uniall", "gpt-image-2"),
        Target("hiapi", "Nano-Banana-2"),
    )
    assert resolve_model(runtime, "Nano-Banana-2") == (Target("evolink", "nano-banana-2"),)


def test_a_name_that_one_provider_has_means_that_one(start: Callable[..., Harness]) -> None:
    runtime = start().runtime

    assert resolve_model(runtime, "Nano-Banana-2") == (Target("hiapi", "Nano-Banana-2"),)


def test_a_name_that_several_have_is_refused_with_all_of_them(
    start: Callable[..., Harness],
) -> None:
    with pytest.raises(ModelNotFound, match="hiapi/nano-banana-2 or evolink/nano-banana-2"):
        resolve_model(start().runtime, "nano-banana-2")


def test_only_enabled_providers_count(start: Callable[..., Harness]) -> None:
    runtime = start().provider_off().runtime

    assert list(listed_models(runtime)) == []
    with pytest.raises(ModelNotFound, match="none is enabled"):
        resolve_model(runtime, "hiapi/Nano-Banana-2")


def test_an_unknown_name_suggests_a_near_one(start: Callable[..., Harness]) -> None:
    with pytest.raises(ModelNotFound, match="did you mean hiapi/Nano-Banana-2"):
        resolve_model(start().runtime, "hiapi-Nano-Banana-2")
