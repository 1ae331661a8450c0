"""Turns what marshmallow finds wrong into one sentence: field, value, what is allowed."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from flask import request
from marshmallow import Schema, ValidationError, validate

from .provider import Refusal

#: reference images are fetched from wherever the client says
WEB_URL = validate.URL(schemes={"http", "https"}, require_tld=False)

_SHOWN = 80


def read_json() -> dict[str, Any]:
    """The request's body as a JSON object."""
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise Refusal(400, "The request body must be a JSON object.")
    return body


def load(schema: Schema, body: Mapping[str, Any], status: int = 400) -> dict[str, Any]:
    """Validate a body; the first thing wrong with it refuses the request, with that status."""
    try:
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        path, complaint = next(_complaints(error.messages, ()))
        field = ".".join(map(str, path))
        raise Refusal(
            status, f"{field}: {complaint} Got: {_shown(body, path)}.", field=field
        ) from None
    return loaded


def one_of(values: Sequence[str]) -> validate.OneOf:
    """One of a closed list, which the complaint names."""
    return validate.OneOf(values, error="Must be one of {choices}.")


def check_callback_url(
    url: str, field: str, *, allow_http: bool, private: bool = True, longest: int | None = None
) -> None:
    """Refuse a callback URL the document forbids; `private` allows internal addresses."""
    host = _host(url)
    if host is None:
        raise Refusal(400, f"{field}: Must be an absolute URL.", field=field)
    if longest is not None and len(url) > longest:
        raise Refusal(400, f"{field}: Must not exceed {longest} characters.", field=field)
    if allow_http:
        return
    if urlsplit(url).scheme != "https":
        raise Refusal(400, f"{field}: Must be an HTTPS URL.", field=field)
    if not private and _is_internal(host):
        raise Refusal(400, f"{field}: Must not be an internal address: {host}.", field=field)


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        # Reading the port raises when it is no number; a URL without one is as good.
        valid = parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        return None
    return parts.hostname if valid else None


def _is_internal(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        # Names are not resolved: a test must not depend on who answers its DNS.
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


def _shown(body: object, path: tuple[str | int, ...]) -> str:
    value: Any = body
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return "nothing"
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
