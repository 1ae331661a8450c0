"""The content of one rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from .catalogue import CATALOGUE
from .fault_kinds import Stage, Value


@dataclass(frozen=True)
class RuleSpec:
    """The submissions that a rule applies to, and their faults. None does not restrict."""

    faults: Mapping[str, Value]
    provider: str | None = None
    #: A part of the prompt.
    match: str | None = None
    #: Largest number of submissions that get the faults.
    times: int | None = None
    #: Number of matching submissions that are skipped first.
    after: int | None = None
    #: Of the others, one in this many gets the faults.
    every: int | None = None
    #: Percentage of these that get the faults, chosen pseudo-randomly.
    share: float | None = None

    @cached_property
    def affects_submissions(self) -> bool:
        """True when a fault is about the submission. A resend can then get it too."""
        return any(CATALOGUE[name].stage is Stage.SUBMISSION for name in self.faults)

    def matches(self, provider: str, prompt: str, unsupported: frozenset[str]) -> bool:
        """Return True when the rule covers this submission and the provider has its faults."""
        return (
            self.provider in (None, provider)
            and (self.match is None or self.match in prompt)
            and not unsupported.issuperset(self.faults)
        )
