"""What models accept, and where unified options go in a provider's body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import INCLUDE, Schema, fields, validate

from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.schema_fields import always, text
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, StrictSchema, Violation

#: The place of a value in a provider's body.
Path = tuple[str, ...]
#: The usual fields that request a callback.
CALLBACK_FIELDS = frozenset({"callback", "callback_url"})


class AnyInput(StrictSchema):
    """The body of an unlisted model: any `input`, which the model's own page defines."""

    model = text(required=True)
    input = fields.Dict(keys=fields.String(), required=True, error_messages=always("a JSON object"))


class AnyBody(StrictSchema):
    """The body of an unlisted model: any fields. The model's name is a part of a path."""

    model = fields.String(
        required=True,
        validate=validate.Regexp(r"\w[\w.-]*(/\w[\w.-]*)+\Z", error="a name such as owner/model"),
        error_messages=always("a name such as owner/model"),
    )

    class Meta:
        """Unknown fields are accepted."""

        unknown = INCLUDE


@dataclass(frozen=True, slots=True)
class Model:
    """One model: the schema of its body, and the paths of the unified options."""

    schema: StrictSchema
    #: Unified option -> path in the body. Other options are refused.
    options: Mapping[str, Path]
    #: Unified option -> unified value -> the provider's spelling.
    spellings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: Unified option -> allowed values, for options without a field of their own.
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Paths of the values that set the price besides the model -> the provider's default.
    priced_by: Mapping[Path, str] = field(default_factory=dict)
    #: Whether the price counts the returned images instead of the requested ones.
    bills_returned: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """A model name that several providers share. `resolution` may choose among models.

    Args:
        default: the provider's model for a request without a resolution.
        tiers: resolution -> model. Empty when the resolution is an option of one model.
        note: what a caller should know about this choice, in words for a list.
    """

    default: str
    tiers: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def choose(self, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the model and the remaining options.

        Raises:
            InvalidRequest: no model has this resolution.
        """
        left = dict(options)
        if not self.tiers or "resolution" not in left:
            return self.default, left
        wanted = left.pop("resolution")
        if wanted not in [*self.tiers]:
            raise InvalidRequest(Violation("resolution", wanted, OneOfNames(self.tiers)))
        return self.tiers[wanted], left


def to_body(model: Model, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of model `name` for these unified options."""
    body: dict[str, Any] = {"model": name}
    for option, value in options.items():
        if option in model.options:
            spelling = model.spellings.get(option, {})
            spelled = spelling.get(value, value) if isinstance(value, str) else value
            set_path(body, model.options[option], spelled)
    return body


def set_path(body: dict[str, Any], path: Path, value: Any) -> None:
    """Set the value at `path`."""
    for step in path[:-1]:
        body = body.setdefault(step, {})
    body[path[-1]] = value


def get_path(body: Mapping[str, Any], path: Path) -> Any:
    """Return the value at `path`, or None."""
    value: Any = body
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def merged(body: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` with `extras` merged over it, object by object."""
    result = dict(body)
    for name, value in extras.items():
        here = result.get(name)
        both = isinstance(here, Mapping) and isinstance(value, Mapping)
        result[name] = merged(here, value) if both else value  # type: ignore[arg-type]
    return result


def check_extras(extras: Mapping[str, Any], callback_fields: frozenset[str]) -> None:
    """Refuse `provider_options` that set the model or request a callback.

    Raises:
        InvalidRequest: with each such field.
    """
    reserved = dict.fromkeys(callback_fields, "left out: we request callbacks ourselves")
    reserved["model"] = "left out: use the field `model`"
    bad = [
        Violation(f"provider_options.{name}", value, reserved[name])
        for name, value in extras.items()
        if name in reserved
    ]
    if bad:
        raise InvalidRequest(*bad)


def checkable(schema: Schema, body: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` without the `extras` that the schema does not know. They stay unchecked."""
    kept = dict(body)
    for name, value in extras.items():
        known = schema.fields.get(name)
        if known is None:
            kept.pop(name, None)
        elif isinstance(known, fields.Nested) and isinstance(value, Mapping):
            kept[name] = checkable(known.schema, kept[name], value)
    return kept


def as_written(violation: Violation, model: Model, request: JobRequest) -> Violation:
    """Return the violation with the field as the caller wrote it."""
    path = tuple(violation.field.split("."))
    if request.native is not None:
        return Violation(f"request.{violation.field}", violation.value, violation.allowed)
    if _sets(request.provider_options, path):
        return Violation(f"provider_options.{violation.field}", violation.value, violation.allowed)
    for option, there in model.options.items():
        if path[: len(there)] == there:
            rest = (option, *path[len(there) :])
            allowed = violation.allowed
            if isinstance(allowed, OneOfNames) and option in model.values:
                allowed = OneOfNames(model.values[option])
            return Violation(".".join(rest), violation.value, allowed)
    return violation


def _sets(extras: Mapping[str, Any], path: Path) -> bool:
    """Return whether the value at `path` of the merged body comes from `extras`."""
    here: Any = extras
    for step in path:
        if not isinstance(here, Mapping):
            return True
        if step not in here:
            return False
        here = here[step]
    return True


def limits(model: Model, option: str) -> dict[str, Any]:
    """Return a model's limits for a unified option: one_of, min, max and so on."""
    if option in model.values:
        return {"one_of": list(model.values[option])}
    field_ = field_at(model.schema, model.options[option])
    known: dict[str, Any] = {}
    for rule in field_.validators if field_ else ():
        known.update(_limit(rule))
    return known


def default_of(model: Model, option: str) -> str | None:
    """Return the provider's default for a unified option that sets the price, or None."""
    return model.priced_by.get(model.options.get(option, ())) or None


def field_at(schema: Schema, path: Path) -> fields.Field[Any] | None:
    """Return the field of a schema at `path`, or None."""
    field_: fields.Field[Any] | None = None
    for step in path:
        field_ = schema.fields.get(step)
        if isinstance(field_, fields.Nested):
            schema = field_.schema
    return field_


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
