"""How a rule is written, be it in JSON, in YAML or in the page's form."""

import re
from collections.abc import Mapping
from typing import Any

from .faults import CATALOGUE, FaultError, Kind, Stage, Value, kind_of, read_value
from .registry import PROVIDERS
from .rule_spec import Terms
from .rules import Rule

#: everything that can be said in a rule
FIELDS = ("provider", "match", "times", "after", "every", "share", "faults")

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")
_SHOWN = 80


class RuleError(ValueError):
    """A rule that cannot be read: the field, its value, and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{_cut(field)}: {_cut(repr(value))} is not allowed; allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


def read_terms(given: object) -> Terms:
    """Read one rule; RuleError says what is wrong with the first field that is."""
    if not isinstance(given, dict):
        raise RuleError("rule", given, "an object with " + ", ".join(FIELDS))
    for name in given:
        if name not in FIELDS:
            raise RuleError(str(name), given[name], ", ".join(FIELDS))
    provider, match = given.get("provider"), given.get("match")
    unsupported = {kind.name: kind.unsupported_faults for kind in PROVIDERS}
    if provider is not None and (not isinstance(provider, str) or provider not in unsupported):
        allowed = ", ".join(unsupported)
        raise RuleError("provider", provider, f"{allowed}, or none for every provider")
    if match is not None and (not isinstance(match, str) or not match):
        raise RuleError("match", match, "a piece of the prompt as text, or null for every prompt")
    times = _whole(given, "times", "always")
    after = _whole(given, "after", "none to leave alone")
    every = _whole(given, "every", "each one")
    share = _read_share(given.get("share"))
    faults = _read_faults(given.get("faults"))
    for name in unsupported[provider].intersection(faults) if provider else ():
        raise RuleError(f"faults.{name}", name, f"any fault {provider} has")
    return Terms(faults, provider, match, times, after, every, share)


def write_rule(rule: Rule) -> dict[str, Any]:
    """A rule as the control API shows it."""
    terms = rule.terms
    return {
        "id": rule.id,
        "provider": terms.provider,
        "match": terms.match,
        "times": terms.times,
        "after": terms.after,
        "every": terms.every,
        "share": None if terms.share is None else f"{terms.share:g}%",
        "seen": rule.seen,
        "hits": rule.hits,
        "remaining": rule.remaining,
        "faults": dict(terms.faults),
    }


def _whole(given: Mapping[str, object], name: str, without: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RuleError(name, value, f"a whole number from 1, or null for {without}")
    return value


def _read_share(value: object) -> float | None:
    if value is None:
        return None
    found = _SHARE.fullmatch(value) if isinstance(value, str) else None
    percent = float(found[1]) if found else 0.0
    if not 0 < percent <= 100:
        allowed = "a percentage such as 20%, above 0% and up to 100%, or null for each one"
        raise RuleError("share", value, allowed)
    return percent


def _read_faults(given: object) -> dict[str, Value]:
    wanted = given
    if isinstance(given, list) and all(isinstance(name, str | int) for name in given):
        wanted = dict.fromkeys(given)
    if not isinstance(wanted, dict) or not wanted:
        raise RuleError("faults", given, "name: value, or a list of names, of " + _all_faults())
    try:
        faults = dict(_read_fault(name, value) for name, value in wanted.items())
        _check_together(faults)
    except FaultError as error:
        raise RuleError(f"faults.{error.fault}", error.value, error.allowed) from error
    return faults


def _read_fault(name: object, value: object) -> tuple[str, Value]:
    # YAML reads the name 429 as a number. True is one in Python too, but no name.
    kind = kind_of(str(name))
    if isinstance(value, dict):
        value = _unwrap(kind, value)
    if value is None or value is True:
        return kind.name, read_value(kind, None)
    if value is False or not isinstance(value, str | int | float):
        raise FaultError(kind.name, value, f"{kind.spelling}, or leave it out")
    return kind.name, read_value(kind, str(value))


def _unwrap(kind: Kind, value: Mapping[object, object]) -> object:
    """The 2 in `{retry_after: 2}`."""
    if kind.inner is None:
        raise FaultError(kind.name, value, kind.spelling)
    if list(value) != [kind.inner]:
        raise FaultError(kind.name, value, f"{{{kind.inner}: {kind.takes.value}}}")
    return value[kind.inner]


def _check_together(faults: Mapping[str, Value]) -> None:
    """Refuse two faults for one and the same submit answer."""
    submission = [name for name in faults if CATALOGUE[name].stage is Stage.SUBMISSION]
    if len(submission) > 1:
        raise FaultError(submission[1], " and ".join(submission), "one of them at a time")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _all_faults() -> str:
    return ", ".join(kind.spelling for kind in CATALOGUE.values())
