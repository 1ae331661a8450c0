"""Turns a validation error of marshmallow into one message: field, rule and value."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from flask import request
from marshmallow import Schema, ValidationError, validate

from .errors import shorten
from .provider import Refusal


def read_json() -> dict[str, Any]:
    """Return the request's body as a JSON object."""
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise Refusal(400, "The request body must be a JSON object.")
    return body


def load(schema: Schema, body: Mapping[str, Any], status: int = 400) -> dict[str, Any]:
    """Validate a body and return its values.

    Raises:
        Refusal: A field is wrong. The refusal names the first one and has this HTTP status.
    """
    try:
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        path, complaint = next(_complaints(error.messages, ()))
        field = ".".join(map(str, path))
        raise Refusal(
            status, f"{field}: {complaint} Got: {_quote(body, path)}.", field=field
        ) from None
    return loaded


def check_image_url(url: str) -> None:
    """Refuse the URL of a reference image that is no absolute http(s) URL. Any host is accepted."""
    if _host(url) is None or not url.isprintable() or " " in url:
        raise ValidationError("Not a valid URL.")


def one_of(values: Sequence[str]) -> validate.OneOf:
    """Return a check for a closed list. Its message names the list."""
    return validate.OneOf(values, error="Must be one of {choices}.")


def check_callback_url(
    url: str, field: str, *, allow_http: bool, private: bool = True, max_chars: int | None = None
) -> None:
    """Refuse a callback URL that the document forbids.

    Args:
        url: The callback URL.
        field: Its field, for the message.
        allow_http: True accepts plain HTTP and internal addresses.
        private: False refuses internal addresses.
        max_chars: The longest URL. None has no limit.

    Raises:
        Refusal: The URL is not allowed.
    """
    host = _host(url)
    if host is None:
        raise Refusal(400, f"{field}: Must be an absolute URL.", field=field)
    if max_chars is not None and len(url) > max_chars:
        raise Refusal(400, f"{field}: Must not exceed {max_chars} characters.", field=field)
    if allow_http:
        return
    if urlsplit(url).scheme != "https":
        raise Refusal(400, f"{field}: Must be an HTTPS URL.", field=field)
    if not private and _is_internal(host):
        raise Refusal(400, f"{field}: Must not be an internal address: {host}.", field=field)


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        # `port` raises ValueError when it is not a number.
        valid = parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        return None
    return parts.hostname if valid else None


def _is_internal(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        # Names are not resolved, because a test must not depend on DNS.
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def _complaints(
    messages: object, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from _complaints(inner, path if key == "_schema" else (*path, key))
    elif isinstance(messages, list):
        for message in messages:
            yield path, str(message)
    else:
        yield path, str(messages)


def _quote(body: object, path: tuple[str | int, ...]) -> str:
    value: Any = body
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return "nothing"
    return shorten(repr(value))
