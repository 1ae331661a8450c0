"""The list of providers: the built-in ones and the plug-ins of other packages.

A plug-in is an entry point in the group `orchestrator.providers` that names a subclass of
`Provider`.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import NoneType

from orchestrator.providers.aigptimage import AIGPTImage
from orchestrator.providers.base import Capabilities, Provider
from orchestrator.providers.catalog import Model
from orchestrator.providers.evolink import EvoLink
from orchestrator.providers.fal import Fal
from orchestrator.providers.hiapi import HiAPI
from orchestrator.providers.kie import Kie
from orchestrator.providers.replicate import Replicate
from orchestrator.providers.uniall import UniAll

GROUP = "orchestrator.providers"
#: A provider's name: used in URLs, file names and settings.
_NAME = re.compile(r"[a-z][a-z0-9]{0,29}")

#: The class attributes that every provider sets.
_REQUIRED = ("name", "title", "base_url", "models")
#: The types of a provider's attributes.
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "title": str,
    "base_url": (str, NoneType),
    "capabilities": Capabilities,
    "models": Mapping,
    "families": Mapping,
    "states": Mapping,
    "results": tuple,
    "refusals": frozenset,
    "named_503_is_refusal": bool,
}
#: The providers of this package. A new one adds a line here.
BUILT_IN: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (UniAll(), HiAPI(), EvoLink(), AIGPTImage(), Replicate(), Kie(), Fal())
}


def discovered(
    points: Iterable[EntryPoint],
) -> tuple[dict[str, Provider], dict[str, str]]:
    """Load plug-ins.

    Returns:
        The loaded providers by name, and the reasons why other plug-ins cannot be used.
    """
    loaded: dict[str, Provider] = {}
    broken: dict[str, str] = {}
    for point in points:
        try:
            provider = _load(point, {**BUILT_IN, **loaded})
        except Exception as error:  # the import of another package may raise anything
            broken[point.name] = f"{type(error).__name__}: {error}{_location(error)}"
        else:
            loaded[provider.name] = provider
    return loaded, broken


def _location(error: Exception) -> str:
    """Return the line of the plug-in that raised an error, or nothing if it is not known."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _load(point: EntryPoint, taken: Mapping[str, Provider]) -> Provider:
    kind = point.load()
    if not (isinstance(kind, type) and issubclass(kind, Provider)):
        raise TypeError(f"{point.value} is not a subclass of orchestrator.providers.api.Provider")
    missing = [name for name in _REQUIRED if not hasattr(kind, name)]
    if missing:
        raise TypeError(f"{point.value} does not set {', '.join(missing)}")
    provider = kind()
    _check_attributes(provider)
    if not _NAME.fullmatch(provider.name):
        raise ValueError(f"its name {provider.name!r} must match {_NAME.pattern}")
    if provider.name in taken:
        raise ValueError(f"there is already a provider {provider.name!r}")
    return provider


def _check_attributes(provider: Provider) -> None:
    """Refuse attributes of a wrong type. They would fail later, far from the plug-in."""
    wrong = [
        f"{name} must be {_a(kind)}; got {type(value).__name__}"
        for name, kind in _TYPES.items()
        if not isinstance(value := getattr(provider, name), kind)
    ]
    if not wrong:
        models = {f"models[{name!r}]": model for name, model in provider.models.items()}
        wrong = [
            f"{name} must be a Model" for name, m in models.items() if not isinstance(m, Model)
        ]
    if wrong:
        raise TypeError("; ".join(wrong))


def _a(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("None" if each is NoneType else f"a {each.__name__}" for each in kinds)


_plug_ins, BROKEN = discovered(entry_points(group=GROUP))
#: Every provider by name.
PROVIDERS: Mapping[str, Provider] = {**BUILT_IN, **_plug_ins}
