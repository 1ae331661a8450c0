"""Which faults a submission gets: those its prompt asks for and those of the control API."""

import itertools
import threading
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from .faults import CATALOGUE, FaultError, Faults, Stage, Value, read_wish


@dataclass
class Rule:
    """One entry of the control API: faults for the submissions it matches."""

    id: str
    provider: str | None
    match: str | None
    times: int | None
    faults: Mapping[str, Value]
    #: how many more submissions it applies to; None is all
    remaining: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.remaining = self.times

    @property
    def active(self) -> bool:
        """Whether it applies to any more submissions."""
        return self.remaining != 0

    def applies_to(self, provider: str, prompt: str) -> bool:
        """Whether this submission is one the rule is for."""
        return (
            self.active
            and self.provider in (None, provider)
            and (self.match is None or self.match in prompt)
        )


class Rules:
    """The rules of the control API, and a count of the submissions seen of each wish."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        self._ids = itertools.count(1)
        self._seen: Counter[Hashable] = Counter()
        self._lock = threading.Lock()

    def add(
        self,
        faults: Mapping[str, Value],
        *,
        provider: str | None = None,
        match: str | None = None,
        times: int | None = None,
    ) -> Rule:
        """Apply the faults to coming submissions, until removed or used up."""
        with self._lock:
            rule = Rule(f"fault-{next(self._ids)}", provider, match, times, dict(faults))
            self._rules[rule.id] = rule
            return rule

    def all(self) -> list[Rule]:
        """Every rule, the oldest first."""
        with self._lock:
            return list(self._rules.values())

    def remove(self, rule_id: str) -> bool:
        """Remove one rule; False when there is none of that id."""
        with self._lock:
            return self._rules.pop(rule_id, None) is not None

    def clear(self) -> None:
        """Remove every rule."""
        with self._lock:
            self._rules.clear()

    def forget_submissions(self) -> None:
        """Count submissions from the start again."""
        with self._lock:
            self._seen.clear()

    def draw(
        self, provider: str, prompt: str, same: Hashable, unsupported: frozenset[str]
    ) -> Faults:
        """Count one submission and say which faults it gets.

        `same` tells resends from first submissions: equal values are the same submission.
        The prompt's own wish wins over a rule.
        """
        wish = read_wish(prompt)
        for name in unsupported.intersection(wish.task):
            raise FaultError(name, name, f"a provider that has it; {provider} does not")
        values: dict[str, Value] = {}
        with self._lock:
            for rule in self._rules.values():
                if rule.applies_to(provider, prompt):
                    values.update(rule.faults)
                    if rule.remaining is not None:
                        rule.remaining -= 1
            values.update(wish.task)
            if wish.submissions:
                self._seen[provider, same] += 1
                number = self._seen[provider, same]
                if number <= len(wish.submissions):
                    values = _without_submission_faults(values)
                    values.update(wish.submissions[number - 1 : number])
        return Faults({name: value for name, value in values.items() if name not in unsupported})


def _without_submission_faults(values: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if not _bites_submission(name)}


def _bites_submission(name: str) -> bool:
    return CATALOGUE[name].stage is Stage.SUBMISSION


def check_together(faults: Mapping[str, Value]) -> None:
    """Refuse two faults for one and the same submit answer."""
    submission = [name for name in faults if _bites_submission(name)]
    if len(submission) > 1:
        raise FaultError(submission[1], " and ".join(submission), "one of them at a time")
