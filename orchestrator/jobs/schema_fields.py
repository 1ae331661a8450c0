"""The fields of our schemas, with errors in whole sentences."""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Iterable, Sequence
from typing import Any

from marshmallow import ValidationError, fields, validate
from marshmallow.utils import is_collection

from orchestrator.jobs.validation import MAX_VIOLATIONS, REQUIRED, OneOfNames, StrictSchema, encodes

#: The endings of files of images, videos and other media.
_MEDIA_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".svg", ".heic", ".heif"),
    *(".avif", ".jp2", ".ico", ".psd", ".pdf", ".mp4", ".mov", ".webm", ".mp3", ".wav"),
)
_MESSAGES: dict[str, Any] = {"required": REQUIRED, "null": "a value, not null"}


class OneOf(validate.OneOf):
    """A closed list of names whose error suggests the nearest name."""

    def __init__(self, names: Iterable[str]) -> None:
        known = tuple(names)
        super().__init__(known, error=OneOfNames(known))

    def _format_error(self, value: Any) -> str:
        return self.error


def always(allowed: str) -> dict[str, Any]:
    """Return a field's messages when one sentence says everything that is allowed."""
    others = dict.fromkeys(("invalid", "null", "special", "too_large"), allowed)
    return {"required": REQUIRED, **others}


class Text(fields.String):
    """A string with a length in characters, or one of a closed list.

    Most values are plain ASCII text. marshmallow takes ten times as long to accept one.

    Args:
        minimum, maximum: the length.
        one_of: the closed list. It replaces the length.
    """

    def __init__(
        self, *, minimum: int, maximum: int | None, one_of: Sequence[str], **options: Any
    ) -> None:
        allowed = _length(minimum, maximum)
        length = validate.Length(minimum, maximum, error=allowed)
        messages = {**_MESSAGES, "invalid": allowed, "invalid_utf8": allowed}
        super().__init__(validate=(length, _is_unicode), error_messages=messages, **options)
        self._lengths = range(minimum, sys.maxsize if maximum is None else maximum + 1)
        self._known: Container[str] | None = None
        if one_of:
            self.limit_to(one_of)

    def limit_to(self, names: Sequence[str]) -> None:
        """Accept only these names."""
        self._known, allowed = frozenset(names), OneOfNames(names)
        self.validators = [OneOf(names)]
        self.error_messages = {
            **self.error_messages,
            **dict.fromkeys(("invalid", "invalid_utf8"), allowed),
        }

    def deserialize(self, value: Any, *args: Any, **options: Any) -> Any:
        """Return a valid value.

        Raises:
            ValidationError: it is not valid.
        """
        if type(value) is str and value.isascii():
            known = len(value) in self._lengths if self._known is None else value in self._known
            if known:
                return value
        return super().deserialize(value, *args, **options)


def text(
    *, minimum: int = 1, maximum: int | None = None, one_of: Sequence[str] = (), **options: Any
) -> Text:
    """Return a string field with a length in characters, or with a closed list of values."""
    return Text(minimum=minimum, maximum=maximum, one_of=one_of, **options)


def whole(minimum: int, maximum: int | None = None) -> fields.Integer:
    """Return a field for a whole number from `minimum` to `maximum`."""
    allowed = f"a whole number from {minimum}" + ("" if maximum is None else f" to {maximum}")
    check = validate.Range(minimum, maximum, error=allowed)
    return fields.Integer(strict=True, validate=check, error_messages=always(allowed))


class _Number(fields.Float):
    """A number. marshmallow also takes a text with one, and JSON Schema does not."""

    def _validated(self, value: Any) -> Any:
        if isinstance(value, str | bytes):
            raise self.make_error("invalid")
        return super()._validated(value)


def number(minimum: float, maximum: float, *, unit: str = "", **options: Any) -> fields.Float:
    """Return a field for a number from `minimum` to `maximum`. The unit is for its message."""
    of_unit = f" of {unit}" if unit else ""
    allowed = f"a number{of_unit} from {minimum:.15g} to {maximum:.15g}"
    check = validate.Range(minimum, maximum, error=allowed)
    return _Number(validate=check, error_messages=always(allowed), **options)


class _Switch(fields.Boolean):
    """`true` or `false`. marshmallow also takes numbers that are equal to them."""

    def _deserialize(self, value: Any, *args: Any, **options: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


def switch(**options: Any) -> fields.Boolean:
    """Return a field for `true` or `false`."""
    return _Switch(error_messages=always("true or false"), **options)


def nested(schema: type[StrictSchema]) -> fields.Nested:
    """Return a required field for an object with this schema."""
    return fields.Nested(schema, required=True, error_messages=always("a JSON object"))


class ShortList(fields.List[Any]):
    """A list. One that is too long is refused before its items are checked.

    Args:
        item: the field of each item.
        maximum: the most items; None: any number.
        too_long: the message of a list that is too long.
    """

    def __init__(self, item: Any, *, maximum: int | None, too_long: str, **options: Any) -> None:
        super().__init__(item, **options)
        self._maximum, self._too_long = maximum, too_long

    def _deserialize(self, value: Any, *args: Any, **options: Any) -> list[Any]:
        """Return the loaded items. The check ends after MAX_VIOLATIONS errors."""
        if not is_collection(value):  # in Python it may be a tuple, too
            raise self.make_error("invalid")
        items = list(value)
        if self._maximum is not None and len(items) > self._maximum:
            raise ValidationError(self._too_long)
        loaded, errors = list[Any](), dict[int, Any]()
        for index, each in enumerate(items):
            try:
                loaded.append(self.inner.deserialize(each, **options))
            except ValidationError as error:
                errors[index] = error.messages
                if len(errors) == MAX_VIOLATIONS:
                    break
        if errors:
            raise ValidationError(errors)
        return loaded


class _Link(fields.Url):
    """An http(s) URL. Unlike marshmallow's field, it accepts `_` in the host, as browsers do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(schemes={"http", "https"}, require_tld=False, **options)
        check = self.validators[0]
        self.validators[0] = lambda value: check(_AUTHORITY.sub(_without_underscores, value, 1))


_AUTHORITY = re.compile(r"^[^/?#]*//[^/?#]*")


def _without_underscores(authority: re.Match[str]) -> str:
    return authority[0].replace("_", "x")


def link(*, endings: tuple[str, ...] = ()) -> fields.Url:
    """Return a field for an http(s) URL.

    Args:
        endings: the accepted file formats, such as `.png`. A URL that ends like a file of another
            format is refused. A URL without such an ending is accepted.
    """
    allowed = "an http(s) URL" + (f" of a file in {', '.join(endings)}" if endings else "")
    return _Link(
        error_messages={**_MESSAGES, "invalid": allowed},
        validate=lambda value: _ends_with(value, endings, allowed),
    )


def links(
    *, minimum: int = 0, maximum: int | None = None, endings: tuple[str, ...] = ()
) -> fields.List[Any]:
    """Return a field for a list of `minimum` to `maximum` such URLs."""
    least = f"at least {minimum} " if minimum else ""
    many = f"a list of at most {maximum} URLs" if maximum else f"a list of {least}URLs"
    return ShortList(
        link(endings=endings),
        maximum=maximum,
        too_long=many,
        validate=validate.Length(minimum or None, maximum, error=many),
        error_messages={**_MESSAGES, "invalid": many},
    )


def _length(minimum: int, maximum: int | None) -> str:
    if maximum is not None:
        return f"a string of {minimum} to {maximum} characters"
    return f"a string of at least {minimum} character{'' if minimum == 1 else 's'}"


def _is_unicode(value: str) -> None:
    """Refuse lone surrogates: Python's strings may hold them, JSON and Redis may not."""
    if not encodes(value):
        raise ValidationError("Unicode text without lone surrogates")


def _ends_with(url: str, endings: tuple[str, ...], allowed: str) -> None:
    _is_unicode(url)
    path = url.partition("?")[0].partition("#")[0].lower()
    if endings and path.endswith(_MEDIA_ENDINGS) and not path.endswith(endings):
        raise ValidationError(allowed)
