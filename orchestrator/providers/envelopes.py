"""Finds documents inside the envelopes that APIs and gateways put around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.jsonio import parse_embedded

#: The usual names of what an envelope holds.
_NAMES = (
    *("data", "task", "job", "payload", "body", "result", "response", "event", "object"),
    *("detail", "record", "item", "message"),
)
#: Names of what is never a task.
_ERRORS = frozenset({"error", "errors", "fault", "meta", "metadata", "usage", "input", "request"})
#: The deepest envelope that is opened, and the most documents that are returned.
_MAX_DEPTH = 6
_MAX_DOCUMENTS = 20


def inner_documents(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a JSON value, the outermost first.

    An object, a list with one element and JSON text are opened. In an object the usual names are
    looked at, or the only field.
    """
    documents: list[dict[str, Any]] = []
    _collect(value, _MAX_DEPTH, documents)
    return documents


def plain_names(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields by their plain names. Of two, a plain one wins, or else the first."""
    plain: dict[str, Any] = {}
    for name, inner in value.items():
        plain.setdefault(plain_name(name), inner)
    return {**plain, **{name: value[name] for name in plain.keys() & value.keys()}}


def plain_name(name: str) -> str:
    """Return a name without `_`, `-` and case."""
    return name.replace("_", "").replace("-", "").lower()


def _collect(value: Any, depth: int, documents: list[dict[str, Any]]) -> None:
    if depth == 0 or len(documents) >= _MAX_DOCUMENTS:
        return
    if isinstance(value, str):
        _collect(parse_embedded(value), depth - 1, documents)
    elif isinstance(value, list) and len(value) == 1:
        _collect(value[0], depth - 1, documents)
    elif isinstance(value, dict):
        documents.append(value)
        for inner in _contents(value):
            _collect(inner, depth - 1, documents)


def _contents(envelope: Mapping[str, Any]) -> list[Any]:
    if len(envelope) == 1 and not _ERRORS & envelope.keys():
        return [*envelope.values()]
    return [envelope[name] for name in _NAMES if name in envelope]
