"""Reads and writes rules, for JSON, YAML and the page's form."""

import re
from collections.abc import Mapping
from typing import Any

from .catalogue import CATALOGUE
from .errors import InputError
from .fault_kinds import FaultKind, Stage, Value
from .faults import FaultError, find_fault_kind, read_value
from .registry import PROVIDERS
from .rule_spec import RuleSpec
from .rules import Rule

#: Every field of a rule.
FIELDS = ("provider", "match", "times", "after", "every", "share", "faults")

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")


class RuleError(InputError):
    """A rule or an inbox fault that cannot be read."""


def read_rule(document: object) -> RuleSpec:
    """Read one rule.

    Raises:
        RuleError: A field is unknown, missing or has a value that is not allowed.
    """
    if not isinstance(document, dict):
        raise RuleError("rule", document, "an object with " + ", ".join(FIELDS))
    check_fields(document, FIELDS)
    provider = _read_provider(document.get("provider"))
    match = document.get("match")
    if match is not None and (not isinstance(match, str) or not match):
        raise RuleError("match", match, "a non-empty part of the prompt, or null for every prompt")
    times = _read_count(document, "times", "no limit")
    after = _read_count(document, "after", "0")
    every = _read_count(document, "every", "1")
    share = _read_share(document.get("share"))
    faults = _read_faults(document.get("faults"))
    for kind in PROVIDERS:
        for name in kind.unsupported_faults.intersection(faults) if kind.name == provider else ():
            raise RuleError(f"faults.{name}", name, f"a fault that {provider} supports")
    return RuleSpec(faults, provider, match, times, after, every, share)


def write_rule(rule: Rule) -> dict[str, Any]:
    """Return a rule in the form of the control API."""
    spec = rule.spec
    return {
        "id": rule.id,
        "provider": spec.provider,
        "match": spec.match,
        "times": spec.times,
        "after": spec.after,
        "every": spec.every,
        "share": None if spec.share is None else f"{spec.share:g}%",
        "seen": rule.seen,
        "hits": rule.hits,
        "remaining": rule.remaining,
        "faults": dict(spec.faults),
    }


def check_fields(document: Mapping[object, object], fields: tuple[str, ...]) -> None:
    """Raise RuleError for the first field that is not known."""
    for name, value in document.items():
        if name not in fields:
            allowed = ", ".join(fields)
            problem = f"is not a known field; known fields: {allowed}"
            raise RuleError(str(name), value, allowed, problem=problem)


def _read_provider(value: object) -> str | None:
    names = [kind.name for kind in PROVIDERS]
    if value is not None and (not isinstance(value, str) or value not in names):
        allowed = ", ".join(names)
        raise RuleError("provider", value, f"one of {allowed}, or null for every provider")
    return value


def _read_count(document: Mapping[str, object], name: str, default: str) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RuleError(name, value, f"a whole number of at least 1, or null for {default}")
    return value


def _read_share(value: object) -> float | None:
    if value is None:
        return None
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    percent = float(match[1]) if match else 0.0
    if not 0 < percent <= 100:
        allowed = "a percentage such as 20%, above 0% and up to 100%, or null for 100%"
        raise RuleError("share", value, allowed)
    return percent


def _read_faults(value: object) -> dict[str, Value]:
    allowed = "an object of name: value, or a list of names, from " + _all_faults()
    if value is None:
        raise RuleError("faults", value, allowed, problem="is required")
    entries = value
    if isinstance(value, list) and all(isinstance(name, str | int) for name in value):
        entries = dict.fromkeys(value)
    if not isinstance(entries, dict) or not entries:
        raise RuleError("faults", value, allowed)
    try:
        faults = dict(_read_fault(name, value) for name, value in entries.items())
        _check_together(faults)
    except FaultError as error:
        field = f"faults.{error.fault}"
        raise RuleError(field, error.value, error.allowed, problem=error.problem) from error
    return faults


def _read_fault(name: object, value: object) -> tuple[str, Value]:
    # YAML reads the name 429 as a number. `True` is also a number in Python, but it is not a name.
    kind = find_fault_kind(str(name))
    if isinstance(value, dict):
        value = _unwrap(kind, value)
    if value is None or value is True:
        return kind.name, read_value(kind, None)
    if value is False or not isinstance(value, str | int | float):
        raise FaultError(kind.name, value, f"{kind.syntax}, or omitted")
    return kind.name, read_value(kind, str(value))


def _unwrap(kind: FaultKind, value: Mapping[object, object]) -> object:
    """Return the 2 in `{retry_after: 2}`."""
    if kind.value_field is None:
        raise FaultError(kind.name, value, kind.syntax)
    if list(value) != [kind.value_field]:
        raise FaultError(kind.name, value, f"{{{kind.value_field}: {kind.value_kind.value}}}")
    return value[kind.value_field]


def _check_together(faults: Mapping[str, Value]) -> None:
    """Refuse two faults for the same submit answer."""
    names = [name for name in faults if CATALOGUE[name].stage is Stage.SUBMISSION]
    if len(names) > 1:
        raise FaultError(names[1], " and ".join(names), "the only submission fault of the rule")


def _all_faults() -> str:
    return ", ".join(kind.syntax for kind in CATALOGUE.values())
