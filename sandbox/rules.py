"""Which faults a submission gets: those its prompt asks for and those of the rules."""

import hashlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .faults import CATALOGUE, REFUSALS, FaultError, Faults, Stage, Value, Wish, read_wish
from .rule_spec import Terms


@dataclass(frozen=True)
class Submission:
    """One submit request, as far as faults are concerned."""

    provider: str
    model: str
    prompt: str
    #: it leads to a task that an earlier one opened, under the same idempotency key
    resend: bool = False

    @property
    def order(self) -> tuple[str, str, str]:
        """What tells submissions apart. No keys and no times: those differ from run to run."""
        return self.provider, self.model, self.prompt


@dataclass
class Rule:
    """One rule at work. Not for several threads at once: `Rules` sees to that."""

    id: str
    terms: Terms
    #: decides, with the submission itself, what a share falls on
    seed: int
    #: how many submissions it was for, whether or not it applied to them
    seen: int = 0
    #: how many it applied to
    hits: int = 0
    _seen_of: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def remaining(self) -> int | None:
        """How many more submissions it can apply to; None is all."""
        return None if self.terms.times is None else self.terms.times - self.hits

    @property
    def active(self) -> bool:
        """Whether it can apply to any more submissions."""
        return self.remaining != 0

    def draw(self, submission: Submission) -> bool:
        """Count a submission it is for, and say whether it applies to this one."""
        self.seen += 1
        number = self.seen - (self.terms.after or 0)
        picked = self._wins(submission)
        hit = picked and number > 0 and number % (self.terms.every or 1) == 0
        self.hits += hit
        return hit

    def _wins(self, submission: Submission) -> bool:
        if self.terms.share is None:
            return True
        self._seen_of[submission.order] += 1
        return 100 * self._lot(submission, self._seen_of[submission.order]) < self.terms.share

    def _lot(self, submission: Submission, number: int) -> float:
        # By the order and how often it came, not by when it came: threads that overtake each
        # other change nothing, and a resend has a lot of its own. The share is left out, so that
        # a larger one hits what a smaller one did, and more.
        words = [self.seed, self.terms.provider, self.terms.match, dict(self.terms.faults)]
        text = json.dumps([*words, submission.order, number], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


class Rules:
    """Every rule, and a count of the submissions seen of each wish."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._rules: dict[str, Rule] = {}
        self._ids = itertools.count(1)
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, terms: Terms) -> Rule:
        """Apply the faults to coming submissions, until removed or used up."""
        with self._lock:
            rule = Rule(f"fault-{next(self._ids)}", terms, self.seed)
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
        """Count the submissions of each wish from the start again."""
        with self._lock:
            self._seen.clear()

    def draw(self, submission: Submission, unsupported: frozenset[str] = frozenset()) -> Faults:
        """Count one submission and say which faults it gets.

        Rules with a fault of the submission see every one of them. The others see only those
        that open a task, neither refused ones nor resends: so they count tasks. Of two rules the
        later wins, and the prompt's own wish over both.
        """
        wish = read_wish(submission.prompt)
        for name in unsupported.intersection(wish.task):
            raise FaultError(name, name, f"a provider that has it; {submission.provider} does not")
        with self._lock:
            asked = self._asked(submission, wish)
            hits = self._hits(submission, unsupported, submissions=True)
            values = self._merge(hits, wish, asked)
            if not submission.resend and REFUSALS.isdisjoint(values):
                hits |= self._hits(submission, unsupported, submissions=False)
                values = self._merge(hits, wish, asked)
        return Faults({name: value for name, value in values.items() if name not in unsupported})

    def _asked(self, submission: Submission, wish: Wish) -> dict[str, Value]:
        """The wish's fault for this very submission, if it has one."""
        if not wish.submissions:
            return {}
        self._seen[submission.order] += 1
        number = self._seen[submission.order]
        return dict(wish.submissions[number - 1 : number])

    def _hits(
        self, submission: Submission, unsupported: frozenset[str], *, submissions: bool
    ) -> set[str]:
        return {
            rule.id
            for rule in self._rules.values()
            if rule.active
            and rule.terms.bites_submissions is submissions
            and rule.terms.match_with(submission.provider, submission.prompt, unsupported)
            and rule.draw(submission)
        }

    def _merge(self, hits: set[str], wish: Wish, asked: Mapping[str, Value]) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for rule in self._rules.values():
            if rule.id in hits:
                values.update(rule.terms.faults)
        values.update(wish.task)
        if asked:
            values = {name: value for name, value in values.items() if not _is_submission(name)}
        return {**values, **asked}


def _is_submission(name: str) -> bool:
    return CATALOGUE[name].stage is Stage.SUBMISSION
