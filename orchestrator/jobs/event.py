"""The timeline of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's timeline."""

    at: int
    name: str
    detail: Mapping[str, Any]
