"""What a provider's models take, and how a unified request is said in its words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema, fields, validate

from orchestrator.jobs.model import JobRequest
from orchestrator.jobs.validation import InvalidRequest, StrictSchema, Violation

#: Where something stands in a provider's body.
Path = tuple[str, ...]
#: Where callbacks are asked for, at most providers.
CALLBACK_FIELDS = frozenset({"callback", "callback_url"})


@dataclass(frozen=True, slots=True)
class Model:
    """One model: what its request body may hold, and where the unified options go in it."""

    schema: StrictSchema
    #: Unified option -> path in the provider's body. An option that is absent here is refused.
    options: Mapping[str, Path]
    #: Unified option -> unified value -> the provider's spelling of it.
    spellings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: Unified option -> its values, where no single field of the body holds it.
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: What the price depends on beside the model: path in the body -> the provider's default.
    priced_by: Mapping[Path, str] = field(default_factory=dict)
    #: Whether the images returned are paid for, rather than those asked for.
    bills_returned: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """A name that means the same at every provider; `resolution` may choose among models.

    Args:
        default: the provider's model when no resolution is said.
        tiers: resolution -> model; empty where the resolution is an option of the one model.
    """

    default: str
    tiers: Mapping[str, str] = field(default_factory=dict)

    def choose(self, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The model, and the options that are left to say to it.

        Raises:
            InvalidRequest: there is no tier of that resolution.
        """
        left = dict(options)
        if not self.tiers or "resolution" not in left:
            return self.default, left
        wanted = left.pop("resolution")
        if wanted not in [*self.tiers]:
            raise InvalidRequest(Violation("resolution", wanted, f"one of {', '.join(self.tiers)}"))
        return self.tiers[wanted], left


def to_body(model: Model, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of model `name` that says these unified options."""
    body: dict[str, Any] = {"model": name}
    for option, value in options.items():
        if option in model.options:
            spelling = model.spellings.get(option, {})
            spelled = spelling.get(value, value) if isinstance(value, str) else value
            set_path(body, model.options[option], spelled)
    return body


def set_path(body: dict[str, Any], path: Path, value: Any) -> None:
    """Set what stands at `path`."""
    for step in path[:-1]:
        body = body.setdefault(step, {})
    body[path[-1]] = value


def get_path(body: Mapping[str, Any], path: Path) -> Any:
    """What stands at `path`, or None."""
    value: Any = body
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def merged(body: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with `extras` over it; objects in both are merged."""
    result = dict(body)
    for name, value in extras.items():
        here = result.get(name)
        both = isinstance(here, Mapping) and isinstance(value, Mapping)
        result[name] = merged(here, value) if both else value  # type: ignore[arg-type]
    return result


def check_extras(extras: Mapping[str, Any], callback_fields: frozenset[str]) -> None:
    """Refuse `provider_options` that would set the model, or ask for callbacks.

    Raises:
        InvalidRequest: naming each.
    """
    reserved = dict.fromkeys(callback_fields, "absent: callbacks are ours to ask for")
    reserved["model"] = "absent: say it in `model`"
    bad = [
        Violation(f"provider_options.{name}", value, reserved[name])
        for name, value in extras.items()
        if name in reserved
    ]
    if bad:
        raise InvalidRequest(*bad)


def checkable(schema: Schema, body: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """`body` without those of `extras` that the schema does not know: they are sent unchecked."""
    kept = dict(body)
    for name, value in extras.items():
        known = schema.fields.get(name)
        if known is None:
            kept.pop(name, None)
        elif isinstance(known, fields.Nested) and isinstance(value, Mapping):
            kept[name] = checkable(known.schema, kept[name], value)
    return kept


def as_written(violation: Violation, model: Model, request: JobRequest) -> Violation:
    """The violation with its field as the caller wrote it."""
    path = tuple(violation.field.split("."))
    if request.native is not None:
        return Violation(f"request.{violation.field}", violation.value, violation.allowed)
    if _sets(request.provider_options, path):
        return Violation(f"provider_options.{violation.field}", violation.value, violation.allowed)
    for option, there in model.options.items():
        if path[: len(there)] == there:
            rest = (option, *path[len(there) :])
            return Violation(".".join(rest), violation.value, violation.allowed)
    return violation


def _sets(extras: Mapping[str, Any], path: Path) -> bool:
    """Whether what stands at `path` of the merged body comes from `extras`."""
    here: Any = extras
    for step in path:
        if not isinstance(here, Mapping):
            return True
        if step not in here:
            return False
        here = here[step]
    return True


def limits(model: Model, option: str) -> dict[str, Any]:
    """What a model allows for a unified option, for listings: one_of, min, max and so on."""
    if option in model.values:
        return {"one_of": list(model.values[option])}
    told = field_at(model.schema, model.options[option])
    found: dict[str, Any] = {}
    for rule in told.validators if told else ():
        found.update(_limit(rule))
    return found


def field_at(schema: Schema, path: Path) -> fields.Field[Any] | None:
    """The field of a schema at `path`."""
    found: fields.Field[Any] | None = None
    for step in path:
        found = schema.fields.get(step)
        if isinstance(found, fields.Nested):
            schema = found.schema
    return found


def _limit(rule: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(rule, validate.OneOf):
        yield "one_of", list(rule.choices)
    elif isinstance(rule, validate.Length):
        yield from _bounds("min_length", rule.min, "max_length", rule.max)
    elif isinstance(rule, validate.Range):
        yield from _bounds("min", rule.min, "max", rule.max)


def _bounds(low: str, least: Any, high: str, most: Any) -> Iterator[tuple[str, Any]]:
    if least is not None:
        yield low, least
    if most is not None:
        yield high, most
