"""Refusing bad input: which field, what value, and what is allowed instead.

Validators' messages say what *is allowed* ("one of 1K, 2K, 4K"); the field and the value are added
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, validate

#: How much of a refused value an error repeats. Characters.
SHOWN = 120


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request. `allowed` completes "must be ...\""""

    field: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        return f"{self.field}: {shown(self.value)} is not accepted; allowed: {self.allowed}"


class InvalidRequest(ValueError):
    """A request that was refused before anything was stored or sent."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__(*violations)
        self.violations = violations

    def __str__(self) -> str:
        return "; ".join(map(str, self.violations))


class _Absent:
    """Stands for the value of a field that was not given."""


def shown(value: Any) -> str:
    """A value as an error repeats it: JSON, shortened."""
    if isinstance(value, _Absent):
        return "nothing"
    try:
        text = orjson.dumps(value, default=repr).decode()
    except TypeError:  # nested too deep, or text that is no Unicode
        text = ascii(value) if isinstance(value, str) else "a value that JSON cannot hold"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


class StrictSchema(Schema):
    """A schema that refuses unknown fields, and says which fields there are."""

    class Meta:
        """Unknown fields are errors."""

        unknown = RAISE

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        known = ", ".join(sorted(self.fields))
        self.error_messages = {
            "unknown": f"a known field: {known}",
            "type": "a JSON object",
        }


_MESSAGES: dict[str, Any] = {"required": "this field is required", "null": "a value, not null"}


def always(allowed: str) -> dict[str, Any]:
    """A field's messages, where one sentence says all that is allowed."""
    return dict.fromkeys(("required", "invalid", "null", "special", "too_large"), allowed)


def text(
    *, minimum: int = 1, maximum: int | None = None, one_of: tuple[str, ...] = (), **options: Any
) -> fields.String:
    """A string field: of `minimum` to `maximum` characters, or one of a closed list."""
    if one_of:
        allowed = f"one of {', '.join(one_of)}"
        check: Any = validate.OneOf(one_of, error=allowed)
    else:
        allowed = f"a string of {minimum} to {maximum or 'any number of'} characters"
        check = validate.Length(minimum, maximum, error=allowed)
    messages: dict[str, Any] = {**_MESSAGES, "invalid": allowed, "invalid_utf8": allowed}
    return fields.String(validate=[check, _is_unicode], error_messages=messages, **options)


def link(*, endings: tuple[str, ...] = ()) -> fields.Url:
    """An http(s) URL field, whose path ends with one of `endings`."""
    allowed = "an http(s) URL" + (f" ending in {', '.join(endings)}" if endings else "")
    return fields.Url(
        schemes={"http", "https"},
        require_tld=False,
        error_messages={**_MESSAGES, "invalid": allowed},
        validate=lambda value: _ends_with(value, endings, allowed),
    )


def links(
    *, minimum: int = 0, maximum: int | None = None, endings: tuple[str, ...] = ()
) -> fields.List[Any]:
    """A list field of `minimum` to `maximum` http(s) URLs whose paths end with one of `endings`."""
    least = f"at least {minimum} " if minimum else ""
    many = f"a list of at most {maximum} URLs" if maximum else f"a list of {least}URLs"
    return fields.List(
        link(endings=endings),
        validate=validate.Length(minimum or None, maximum, error=many),
        error_messages={**_MESSAGES, "invalid": many},
    )


def _is_unicode(value: str) -> None:
    """Python's strings may hold lone surrogates, which no JSON and no Redis takes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError("Unicode text, without lone surrogates") from None


def _ends_with(url: str, endings: tuple[str, ...], allowed: str) -> None:
    _is_unicode(url)
    path = url.partition("?")[0].partition("#")[0].lower()
    if endings and not path.endswith(endings):
        raise ValidationError(allowed)


def checked(schema: Schema, data: Any) -> Any:
    """`data` loaded by `schema`.

    Raises:
        InvalidRequest: with every violation found.
    """
    try:
        return schema.load(data)
    except ValidationError as error:
        messages: Any = error.messages
        raise InvalidRequest(*_violations(messages, data)) from None


def _violations(messages: Any, data: Any, path: tuple[str | int, ...] = ()) -> Iterator[Violation]:
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            here = path if name == "_schema" else (*path, name)
            yield from _violations(inner, data, here)
        return
    value = _value_at(data, path)
    for message in messages:
        yield Violation(".".join(map(str, path)) or "body", value, str(message))


def _value_at(data: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return _Absent()
    return data
