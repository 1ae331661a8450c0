"""The providers: one adapter each, and the list of them."""

from __future__ import annotations

from orchestrator.providers.base import Provider
from orchestrator.providers.registry import BROKEN, BUILT_IN, PROVIDERS

__all__ = ["BROKEN", "BUILT_IN", "PROVIDERS", "Provider"]
