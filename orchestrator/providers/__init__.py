"""The providers: one file each, and this list."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.providers.base import Provider
from orchestrator.providers.evolink import EvoLink
from orchestrator.providers.hiapi import HiAPI

#: Every provider by its name. Adding one adds a line here.
PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in (HiAPI(), EvoLink())}

__all__ = ["PROVIDERS", "Provider"]
