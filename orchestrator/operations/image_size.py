"""Chooses aspect ratio and resolution for a size in pixels, as OpenAI's clients write it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.providers.base import Provider
from orchestrator.providers.catalog import Family, Model, limits

SIZE = re.compile(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})")
#: A ratio fits if it differs by at most this factor: 1792x1024 (7:4) is made as 16:9.
MAX_RATIO_FACTOR = 1.05
#: Resolution -> the most pixels of a size that means it: 1792x1024 means 1K, 1920x1080 and
#: 2560x1440 mean 2K, 3840x2160 means 4K.
MOST_PIXELS = {
    "0.5K": 400_000,
    "1K": 2_000_000,
    "2K": 8_000_000,
    "4K": 20_000_000,
    "8K": 70_000_000,
}


def size_options(provider: Provider, model_name: str, size: str) -> dict[str, Any]:
    """Return the options of a request that make images of a size.

    Args:
        provider: the provider.
        model_name: a model or a family of it; of another one nothing is chosen.
        size: `1536x1024`, or `auto`: nothing is chosen.

    Returns:
        Some of aspect_ratio, resolution and provider_options. An option that the model does not
        have is left out.

    Raises:
        InvalidRequest: the size has another form, or the model has nothing near it.
    """
    if size == "auto":
        return {}
    match = SIZE.fullmatch(size)
    if match is None:
        raise InvalidRequest(Violation("size", size, "auto, or a size such as 1024x1024"))
    family = provider.families.get(model_name)
    model = provider.models.get(family.default if family else model_name)
    if model is None:
        return {}
    if size in _native_sizes(model):
        return {"provider_options": {"size": size}}
    width, height = int(match[1]), int(match[2])
    options = {}
    if "aspect_ratio" in model.options:
        options["aspect_ratio"] = _ratio(model, size, width / height)
    if tiers := _tiers(model, family):
        options["resolution"] = _tier(tiers, size, width * height)
    return options


def _native_sizes(model: Model) -> tuple[str, ...]:
    """Return the sizes in pixels that the model's own field `size` accepts."""
    path = model.options.get("aspect_ratio")
    field = model.schema.fields.get("size") if path == ("size",) else None
    checks = field.validators if field else ()
    names = (getattr(check, "choices", ()) for check in checks)
    return tuple(str(name) for choices in names for name in choices if SIZE.fullmatch(str(name)))


def _ratio(model: Model, size: str, wanted: float) -> str:
    """Return the nearest aspect ratio of the model.

    Raises:
        InvalidRequest: it is not near enough.
    """
    names = [each for each in limits(model, "aspect_ratio").get("one_of", ()) if ":" in each]
    if not names:
        return _reduced(*map(int, size.split("x")))
    nearest = min(names, key=lambda name: abs(math.log(_value(name) / wanted)))
    if abs(math.log(_value(nearest) / wanted)) > math.log(MAX_RATIO_FACTOR):
        allowed = f"auto, or a size with one of the aspect ratios {', '.join(names)}"
        raise InvalidRequest(Violation("size", size, allowed))
    return str(nearest)


def _value(ratio: str) -> float:
    width, _, height = ratio.partition(":")
    return float(width) / float(height)


def _reduced(width: int, height: int) -> str:
    divisor = math.gcd(width, height)
    return f"{width // divisor}:{height // divisor}"


def _tiers(model: Model, family: Family | None) -> list[str]:
    """Return the resolutions that the model or its family has, smallest first."""
    if family and family.tiers:
        names: Iterable[str] = family.tiers
    elif "resolution" in model.options:
        names = limits(model, "resolution").get("one_of", ())
    else:
        names = ()
    return sorted((name for name in names if name in MOST_PIXELS), key=MOST_PIXELS.__getitem__)


def _tier(tiers: list[str], size: str, pixels: int) -> str:
    for tier in tiers:
        if pixels <= MOST_PIXELS[tier]:
            return tier
    allowed = f"auto, or at most {MOST_PIXELS[tiers[-1]]} pixels"
    raise InvalidRequest(Violation("size", size, allowed))
