"""Error sentences for bad requests, and the schema fields that produce them.

A validator's message completes the sentence "<field> must be ...": "one of 1K, 2K, 4K".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

import orjson
from marshmallow import RAISE, Schema, ValidationError

from orchestrator.jobs.request_forms import form_of
from orchestrator.jsonio import dump

#: The longest part of a value that an error repeats. A value may be a prompt. Characters.
MAX_SHOWN_CHARACTERS = 40
#: The same, of a link. Characters.
MAX_SHOWN_LINK_CHARACTERS = 120
#: The most errors of a request that are told, and the most of one list that are looked for.
MAX_VIOLATIONS = 50
#: The longest text that is read as a whole number. Characters.
MAX_NUMBER_CHARACTERS = 12
#: The deepest metadata, native request or provider_options. Levels.
MAX_DEPTH = 32
_LINK = re.compile(r'"?https?://\S*')
#: The message of a field that is absent although it is required.
REQUIRED = "given"


class OneOfNames(str):
    """The message "one of a, b, c". It keeps the names, so that an error can suggest one."""

    __slots__ = ("names",)
    names: tuple[str, ...]

    def __new__(cls, names: Iterable[str], text: str | None = None) -> Self:
        """Make the message; `text` replaces the list of names."""
        known = tuple(names)
        message = super().__new__(cls, text or f"one of {', '.join(known)}")
        message.names = known
        return message


class KnownFields(OneOfNames):
    """The message of a field that the schema does not know."""

    __slots__ = ()

    def __new__(cls, names: Iterable[str], text: str | None = None) -> Self:
        """Make the message."""
        known = tuple(sorted(names))
        return super().__new__(cls, known, text or f"a known field: {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Violation:
    """One error in a request. `allowed` completes "<field> must be ..."."""

    field: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        if isinstance(self.value, _Absent) and self.allowed == REQUIRED:
            return f"{self.field} is required"
        near = self._near()
        if isinstance(self.allowed, KnownFields):
            known = f"known fields: {', '.join(self.allowed.names)}"
            return f"{self.field} is not a known field; {near or known}"
        got = "" if isinstance(self.value, _Absent) else f"; got {shown(self.value)}"
        return f"{self.field} must be {self.allowed}{got}{near and f'; {near}'}"

    def _near(self) -> str:
        unknown = isinstance(self.allowed, KnownFields)
        name = self.field.rpartition(".")[2] if unknown else self.value
        if not isinstance(self.allowed, OneOfNames) or not isinstance(name, str):
            return ""
        if not any(map(str.isalpha, name)):  # numbers that look alike mean different things
            return ""
        near = nearest(name, self.allowed.names)
        return f"did you mean {near}?" if near else ""


class InvalidRequest(ValueError):
    """A request that was refused. Nothing was stored or sent."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__(*violations)
        self.violations = violations

    def __str__(self) -> str:
        return "; ".join(map(str, self.violations[:MAX_VIOLATIONS]))


class _Absent:
    """The value of a field that was not given."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the known name that is spelled most like `name`, or None."""
    by_lower = {known.lower(): known for known in names}
    near = get_close_matches(name.lower(), by_lower, 1)
    return by_lower[near[0]] if near else None


def shown(value: Any) -> str:
    """Return a value as a sentence repeats it: JSON, shortened. Of a long list, its length."""
    if isinstance(value, str):
        return _shortened(value, _json)
    text = _json(value)
    if isinstance(value, list) and len(text) > MAX_SHOWN_CHARACTERS:
        return f"a list of {len(value)}"
    return _shortened(text)


def plain(value: Any) -> str:
    """Return a value as text: a string as it is, another value as JSON, shortened."""
    if isinstance(value, _Absent):
        return ""
    return _shortened(value if isinstance(value, str) and encodes(value) else _json(value))


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, default=repr).decode()
    except TypeError:  # nested too deep, or text with lone surrogates
        return ascii(value) if isinstance(value, str) else "a value that JSON cannot hold"


def _shortened(text: str, write: Callable[[str], str] = str) -> str:
    """Return a text in the form of `write`. Of a long text, return the beginning and the length."""
    most = MAX_SHOWN_LINK_CHARACTERS if _LINK.fullmatch(text) else MAX_SHOWN_CHARACTERS
    if len(text) <= most:
        return write(text)
    return f"{write(text[:most])}... ({len(text)} characters)"


def encodes(text: str) -> bool:
    """Return whether a text is Unicode. Python's strings may hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class StrictSchema(Schema):
    """A schema that refuses unknown fields and names the known ones.

    Its hooks take one value at a time, without the original data.
    """

    class Meta:
        """Unknown fields are errors."""

        unknown = RAISE

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.error_messages = {"unknown": KnownFields(self.fields), "type": "a JSON object"}
        self._names = frozenset(each.data_key or name for name, each in self.load_fields.items())

    def load(self, data: Any, **options: Any) -> Any:
        """Return the loaded data.

        Raises:
            ValidationError: with every error.
        """
        # A form with unknown names would be kept, and a caller may send any number of them.
        known = isinstance(data, dict) and self._names.issuperset(data)
        if known and not any(options.values()):
            with suppress(ValidationError):
                return form_of(self, frozenset(data)).load(data)
        return super().load(data, **options)


def checked(schema: Schema, data: Any) -> Any:
    """Return `data` loaded by `schema`.

    Raises:
        InvalidRequest: with every violation.
    """
    try:
        return schema.load(data)
    except ValidationError as error:
        messages: Any = error.messages
        raise InvalidRequest(*_violations(messages, data)) from None


def whole_number(field: str, text: str, low: int, high: int, otherwise: str = "") -> int:
    """Return the whole number of a text.

    Args:
        field: its name, for the error.
        text: what was given.
        low: the lowest number.
        high: the highest number.
        otherwise: what else is allowed, for the error.

    Raises:
        InvalidRequest: it is no such number.
    """
    digits = text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_CHARACTERS
    if not digits or not low <= int(text) <= high:
        allowed = f"a whole number from {low} to {high}" + (f", or {otherwise}" * bool(otherwise))
        raise InvalidRequest(Violation(field, text, allowed))
    return int(text)


def _violations(messages: Any, data: Any, path: tuple[str | int, ...] = ()) -> Iterator[Violation]:
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            here = path if name == "_schema" else (*path, name)
            yield from _violations(inner, data, here)
        return
    value = _value_at(data, path)
    for message in messages:
        allowed = message if isinstance(message, str) else str(message)
        yield Violation(".".join(map(str, path)) or "body", value, allowed)


def _value_at(data: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return _Absent()
    return data


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        ValidationError: the value has more than MAX_DEPTH levels, or JSON cannot hold it.
    """
    if _is_deep(value):
        raise ValidationError(f"at most {MAX_DEPTH} levels deep")
    try:
        return dump(value)
    except (TypeError, ValueError):
        raise ValidationError("a value that JSON can hold") from None


def _is_deep(value: Any) -> bool:
    """Return whether a JSON value has more than MAX_DEPTH levels, without recursion."""
    levels, layer = 0, [value]
    while layer := [v for v in layer if isinstance(v, Mapping | list)]:
        levels += 1
        if levels > MAX_DEPTH:
            return True
        layer = [
            v for inner in layer for v in (inner.values() if isinstance(inner, Mapping) else inner)
        ]
    return False
