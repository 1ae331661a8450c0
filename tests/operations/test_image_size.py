"""Aspect ratio and resolution for a size in pixels."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.jobs.validation import InvalidRequest
from orchestrator.operations.image_size import size_options
from orchestrator.providers import BUILT_IN
from tests.support.cases import for_each


@for_each(
    ("provider", "model", "size", "options"),
    [
        ("hiapi", "Nano-Banana-2", "auto", {}),
        ("hiapi", "Nano-Banana-2", "256x256", {"aspect_ratio": "1:1", "resolution": "1K"}),
        ("hiapi", "Nano-Banana-2", "1024x1024", {"aspect_ratio": "1:1", "resolution": "1K"}),
        ("hiapi", "Nano-Banana-2", "1536x1024", {"aspect_ratio": "3:2", "resolution": "1K"}),
        ("hiapi", "Nano-Banana-2", "1024x1792", {"aspect_ratio": "9:16", "resolution": "1K"}),
        ("hiapi", "Nano-Banana-2", "1920x1080", {"aspect_ratio": "16:9", "resolution": "2K"}),
        ("hiapi", "Nano-Banana-2", "3840x2160", {"aspect_ratio": "16:9", "resolution": "4K"}),
        # The resolution of a family chooses its model.
        ("uniall", "nano-banana-2", "512x512", {"aspect_ratio": "1:1", "resolution": "0.5K"}),
        ("uniall", "nano-banana-pro", "7680x4320", {"aspect_ratio": "16:9", "resolution": "8K"}),
        # The resolution is a part of the name of this model.
        ("uniall", "NanoBanana2-2K", "1024x1024", {"aspect_ratio": "1:1"}),
        # The model has sizes in pixels of its own. Others are made by ratio and resolution.
        ("uniall", "gpt-image-2", "1536x1024", {"provider_options": {"size": "1536x1024"}}),
        ("uniall", "gpt-image-2", "512x512", {"aspect_ratio": "1:1", "resolution": "1K"}),
        ("hiapi", "a model that is not listed", "1024x1024", {}),
    ],
)
def test_the_nearest_options_of_the_model_are_chosen(
    provider: str, model: str, size: str, options: dict[str, Any]
) -> None:
    assert size_options(BUILT_IN[provider], model, size) == options


@for_each(
    "size", ["", "large", "1024", "0x0", "1024X1024", "100x900", "20000x20000", "1x1", "-5x5"]
)
def test_a_size_that_the_model_has_not_is_refused(size: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        size_options(BUILT_IN["hiapi"], "Nano-Banana-2", size)

    assert refused.value.violations[0].field == "size"


@for_each("name", sorted(BUILT_IN))
def test_usual_sizes_make_requests_that_the_provider_accepts(name: str) -> None:
    provider = BUILT_IN[name]
    for model in provider.families:
        options = size_options(provider, model, "1024x1024")
        assert set(options) <= {"aspect_ratio", "resolution", "provider_options"}
