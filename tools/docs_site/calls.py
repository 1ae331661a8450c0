"""The page of all calls of the HTTP API, from its OpenAPI document."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.api.openapi import PROBLEMS
from orchestrator.runtime import Runtime
from orchestrator.settings.settings import Settings
from webhooks.app import create_app

URI = "http-calls.md"
METHODS = ("get", "post", "put", "patch", "delete")
_HEAD = """\
# HTTP calls

This page is made from the [OpenAPI document](openapi.json){: download }. A running server has the
same at `/openapi.json`, and shows it at `/docs`, where you can try calls.
[The HTTP API](http-api.md) explains what all calls have in common.

Every call needs `Authorization: Bearer KEY`. An error is a problem document with one of these
statuses:
"""


def document() -> dict[str, Any]:
    """Return the OpenAPI document of the code. Nothing connects to Redis."""
    # The settings of whoever builds the site have nothing to do with the page.
    kept = dict(os.environ)
    for name in [name for name in kept if re.match("ORCHESTRATOR_|.*_API_KEY", name)]:
        del os.environ[name]
    os.environ["ORCHESTRATOR_API_KEYS"] = "documentation:" + "0" * 32
    try:
        app = create_app(Runtime.from_settings(Settings.from_env()))
    finally:
        os.environ.clear()
        os.environ.update(kept)
    described: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return described


def as_json(described: Mapping[str, Any]) -> str:
    """Return the document as a file."""
    return json.dumps(described, indent=2)


def page(described: Mapping[str, Any]) -> str:
    """Return the page in Markdown: the calls by their tags, then the schemas."""
    tags: dict[str, list[str]] = {}
    for path, operations in described["paths"].items():
        for method in METHODS:
            if call := operations.get(method):
                shared = operations.get("parameters", [])
                section = _call(f"{method.upper()} {path}", call, shared)
                tags.setdefault(call["tags"][0], []).append(section)
    schemas = {
        name: schema
        for name, schema in described["components"]["schemas"].items()
        if f'"#/components/schemas/{name}"' in json.dumps(described)
    }
    parts = [_HEAD, _table(("status", "meaning"), ((f"{s}", m) for s, m in PROBLEMS.items()))]
    for tag, sections in tags.items():
        parts += [f"## {tag.capitalize()}\n", *sections]
    parts += ["## Schemas\n", *(_schema(name, schema) for name, schema in schemas.items())]
    return "\n".join(parts)


def _call(title: str, call: Mapping[str, Any], shared: list[dict[str, Any]]) -> str:
    parameters = [*shared, *call.get("parameters", [])]
    parts = [f"### `{title}`\n", f"{call.get('summary', '')}\n", f"{call.get('description', '')}\n"]
    if parameters:
        rows = (
            (f"`{one['name']}`", one["in"], _type(one["schema"]), _needed(one), _meaning(one))
            for one in parameters
        )
        parts.append(_table(("parameter", "in", "type", "required", "meaning"), rows))
    if body := call.get("requestBody"):
        types = (f"`{kind}`: {_type(one['schema'])}" for kind, one in body["content"].items())
        parts.append(f"Body: {', or '.join(types)}\n")
    answers, errors = [], []
    for status, answer in call["responses"].items():
        if int(status) < 400:
            answers.append((status, _content(answer), answer["description"]))
        else:
            errors.append(status)
    parts.append(_table(("status", "answer", "meaning"), answers))
    parts.append(f"Errors: {', '.join(errors)}\n")
    return "\n".join(part for part in parts if part.strip())


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = (
        (f"`{field}`", _type(one), "yes" if field in needed else "", _meaning(one))
        for field, one in schema.get("properties", {}).items()
    )
    return "\n".join(
        [
            f"### {name}\n",
            f"{schema.get('description', '')}\n",
            _table(("field", "type", "required", "meaning"), rows),
        ]
    )


def _content(answer: Mapping[str, Any]) -> str:
    content = answer.get("content", {})
    return ", ".join(
        f"{_type(one['schema'])}" if kind == "application/json" else f"`{kind}`"
        for kind, one in content.items()
    )


def _needed(parameter: Mapping[str, Any]) -> str:
    return "yes" if parameter.get("required") else ""


def _type(schema: Mapping[str, Any]) -> str:
    """Return the type of a value, with a link to its schema."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key, word in (("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")):
        if key in schema:
            return word.join(_type(each) for each in schema[key])
    kinds = schema.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    text = " or ".join(kinds)
    if "array" in kinds and schema.get("items"):
        text = text.replace("array", f"array of {_type(schema['items'])}")
    if "object" in kinds and isinstance(schema.get("additionalProperties"), dict):
        values = schema["additionalProperties"]
        text += f" of {_type(values)}" if values else ""
    return text


def _meaning(one: Mapping[str, Any]) -> str:
    """Return the description of a value and what limits it."""
    schema = one.get("schema", one)
    limits = []
    if values := schema.get("enum"):
        limits.append("One of " + ", ".join(f"`{value}`" for value in values if value is not None))
    for key, words in _LIMITS.items():
        if key in schema:
            limits.append(f"{words} `{schema[key]}`")
    described = [one.get("description", "").strip(), *(f"{limit}." for limit in limits)]
    return " ".join(part for part in described if part)


_LIMITS = {
    "default": "Default",
    "minimum": "At least",
    "maximum": "At most",
    "maxLength": "Characters at most:",
    "maxItems": "Entries at most:",
    "pattern": "Pattern",
    "format": "Format",
}


def _table(header: tuple[str, ...], rows: Any) -> str:
    """Return a table, without the columns that are empty in all rows. No rows: no table."""
    listed = [tuple(map(_cell, row)) for row in rows]
    if not listed:
        return ""
    used = [n for n in range(len(header)) if any(row[n] for row in listed)]
    lines: Iterator[list[str]] = ([row[n] for n in used] for row in listed)
    rule = ["---"] * len(used)
    shown = [[header[n] for n in used], rule, *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in shown) + "\n"


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")
