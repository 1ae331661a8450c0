"""The result of one check of a deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mark = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. `fix` is the correction, empty when none is needed."""

    check: str
    mark: Mark
    found: str
    fix: str = ""
