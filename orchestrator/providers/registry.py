"""Every provider there is: the built-in ones, and those that other packages bring.

A package brings one by an entry point in the group `orchestrator.providers` that names a subclass
of `Provider`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from orchestrator.providers.aigptimage import AIGPTImage
from orchestrator.providers.base import Provider
from orchestrator.providers.evolink import EvoLink
from orchestrator.providers.hiapi import HiAPI
from orchestrator.providers.uniall import UniAll

GROUP = "orchestrator.providers"
#: In URLs, in file names and, in upper case, in the names of settings.
_NAME = re.compile(r"[a-z][a-z0-9]{0,29}")

#: Those of this package. Adding one adds a line here.
BUILT_IN: Mapping[str, Provider] = {
    provider.name: provider for provider in (UniAll(), HiAPI(), EvoLink(), AIGPTImage())
}


def discovered(
    points: Iterable[EntryPoint],
) -> tuple[dict[str, Provider], dict[str, str]]:
    """The providers that entry points bring, and why others cannot be used, by name."""
    found: dict[str, Provider] = {}
    broken: dict[str, str] = {}
    for point in points:
        try:
            provider = _load(point, {**BUILT_IN, **found})
        except Exception as error:  # whatever somebody else's module does when it is imported
            broken[point.name] = f"{type(error).__name__}: {error}"
        else:
            found[provider.name] = provider
    return found, broken


def _load(point: EntryPoint, taken: Mapping[str, Provider]) -> Provider:
    kind = point.load()
    if not (isinstance(kind, type) and issubclass(kind, Provider)):
        raise TypeError(f"{point.value} is not a subclass of orchestrator.providers.Provider")
    provider = kind()
    if not _NAME.fullmatch(provider.name):
        raise ValueError(f"its name {provider.name!r} must match {_NAME.pattern}")
    if provider.name in taken:
        raise ValueError(f"there is a provider {provider.name!r} already")
    return provider


_found, BROKEN = discovered(entry_points(group=GROUP))
#: Every provider by its name.
PROVIDERS: Mapping[str, Provider] = {**BUILT_IN, **_found}
