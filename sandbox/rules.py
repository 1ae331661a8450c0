"""Decides which faults a submission gets, from its prompt and from the rules."""

import hashlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .catalogue import CATALOGUE, REFUSALS
from .fault_kinds import Stage, Value
from .faults import FaultError, Faults, PromptFaults, read_prompt_faults
from .rule_spec import RuleSpec


@dataclass(frozen=True)
class Submission:
    """The parts of one submit request that decide its faults."""

    provider: str
    model: str
    prompt: str
    #: True when an earlier request with the same idempotency key created the task.
    resend: bool = False
    #: True when an earlier request came over the same connection.
    is_reused_connection: bool = False

    def creates_task(self, faults: Mapping[str, Value]) -> bool:
        """Return True when a submission with these faults creates a new task."""
        is_closed = self.is_reused_connection and "stale_connection" in faults
        return not self.resend and not is_closed and REFUSALS.isdisjoint(faults)

    @property
    def identity(self) -> tuple[str, str, str]:
        """The fields that identify a submission. Keys and times differ between runs."""
        return self.provider, self.model, self.prompt


@dataclass
class Rule:
    """One active rule and its counters. It is not thread-safe; `Rules` holds the lock."""

    id: str
    spec: RuleSpec
    #: Decides, with the submission, which submissions the share hits.
    seed: int
    #: Matching submissions so far, with and without faults.
    seen: int = 0
    #: Submissions that got the faults so far.
    hits: int = 0
    _seen_by_identity: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def remaining(self) -> int | None:
        """Submissions that can still get the faults. None has no limit."""
        return None if self.spec.times is None else self.spec.times - self.hits

    @property
    def active(self) -> bool:
        """True while more submissions can get the faults."""
        return self.remaining != 0

    def count(self, submission: Submission) -> bool:
        """Count a matching submission. Return True when it gets the faults."""
        self.seen += 1
        number = self.seen - (self.spec.after or 0)
        in_share = self._in_share(submission)
        hit = in_share and number > 0 and number % (self.spec.every or 1) == 0
        self.hits += hit
        return hit

    def _in_share(self, submission: Submission) -> bool:
        if self.spec.share is None:
            return True
        self._seen_by_identity[submission.identity] += 1
        number = self._seen_by_identity[submission.identity]
        return 100 * self._share_position(submission, number) < self.spec.share

    def _share_position(self, submission: Submission, number: int) -> float:
        # The position depends on the submission and its number, not on its time. So the order of
        # threads changes nothing, and a resend has its own position. The share is not part of
        # it, so a larger share hits the same submissions and more.
        words = [self.seed, self.spec.provider, self.spec.match, dict(self.spec.faults)]
        text = json.dumps([*words, submission.identity, number], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


class Rules:
    """Every rule, and the number of submissions of each prompt with faults."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._rules: dict[str, Rule] = {}
        self._ids = itertools.count(1)
        self._submissions: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, spec: RuleSpec) -> Rule:
        """Apply a rule to coming submissions until it is removed or used up."""
        with self._lock:
            rule = Rule(f"fault-{next(self._ids)}", spec, self.seed)
            self._rules[rule.id] = rule
            return rule

    def all(self) -> list[Rule]:
        """Return every rule, the oldest first."""
        with self._lock:
            return list(self._rules.values())

    def remove(self, rule_id: str) -> bool:
        """Remove one rule. Return False when no rule has this id."""
        with self._lock:
            return self._rules.pop(rule_id, None) is not None

    def clear(self) -> None:
        """Remove every rule."""
        with self._lock:
            self._rules.clear()

    def forget_submissions(self) -> None:
        """Reset the number of submissions of each prompt. Rules keep their counters."""
        with self._lock:
            self._submissions.clear()

    def draw(self, submission: Submission, unsupported: frozenset[str] = frozenset()) -> Faults:
        """Count one submission and return its faults.

        A rule with a submission fault counts every submission. A rule without one counts only
        submissions that create a task, so it counts neither refused ones nor resends. The later
        of two rules has priority. The prompt has priority over both.

        Args:
            submission: The submission.
            unsupported: The names of the faults that the provider does not have.

        Raises:
            FaultError: The prompt asks for an unknown or unsupported fault.
        """
        prompt_faults = read_prompt_faults(submission.prompt)
        for name in unsupported.intersection(prompt_faults.task):
            raise FaultError(name, name, f"a fault that {submission.provider} supports")
        with self._lock:
            own = self._prompt_fault(submission, prompt_faults)
            hits = self._hits(submission, unsupported, submissions=True)
            values = self._merge(hits, prompt_faults, own)
            if submission.creates_task(values):
                hits |= self._hits(submission, unsupported, submissions=False)
                values = self._merge(hits, prompt_faults, own)
        return Faults({name: value for name, value in values.items() if name not in unsupported})

    def _prompt_fault(
        self, submission: Submission, prompt_faults: PromptFaults
    ) -> dict[str, Value]:
        """Return the submission fault that the prompt asks for this time, if any."""
        if not prompt_faults.submissions:
            return {}
        self._submissions[submission.identity] += 1
        number = self._submissions[submission.identity]
        return dict(prompt_faults.submissions[number - 1 : number])

    def _hits(
        self, submission: Submission, unsupported: frozenset[str], *, submissions: bool
    ) -> set[str]:
        return {
            rule.id
            for rule in self._rules.values()
            if rule.active
            and rule.spec.affects_submissions is submissions
            and rule.spec.matches(submission.provider, submission.prompt, unsupported)
            and rule.count(submission)
        }

    def _merge(
        self, hits: set[str], prompt_faults: PromptFaults, own: Mapping[str, Value]
    ) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for rule in self._rules.values():
            if rule.id in hits:
                values.update(rule.spec.faults)
        values.update(prompt_faults.task)
        if own:
            values = {name: value for name, value in values.items() if not _is_submission(name)}
        return {**values, **own}


def _is_submission(name: str) -> bool:
    return CATALOGUE[name].stage is Stage.SUBMISSION
