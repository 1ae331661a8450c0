"""What one rule asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from .faults import CATALOGUE, Stage, Value


@dataclass(frozen=True)
class Terms:
    """Which submissions a rule is for, and which faults they get. None narrows nothing down."""

    faults: Mapping[str, Value]
    provider: str | None = None
    #: a piece of the prompt
    match: str | None = None
    #: how many it applies to
    times: int | None = None
    #: how many of those that match are left alone at first
    after: int | None = None
    #: of the others, one in so many
    every: int | None = None
    #: and of these so many in a hundred, drawn by lot
    share: float | None = None

    @cached_property
    def bites_submissions(self) -> bool:
        """Whether any of its faults is about the submission, so that a resend can have it too."""
        return any(CATALOGUE[name].stage is Stage.SUBMISSION for name in self.faults)

    def match_with(self, provider: str, prompt: str, unsupported: frozenset[str]) -> bool:
        """Whether it is for such submissions, and has a fault that this provider can have."""
        return (
            self.provider in (None, provider)
            and (self.match is None or self.match in prompt)
            and not unsupported.issuperset(self.faults)
        )
