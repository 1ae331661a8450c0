"""Loads data by a marshmallow schema, with the fields that the data has.

marshmallow takes as long for an absent field as for one that is there, and asks anew for the hooks
of a schema each time. A form has the fields of one set of names, and the hooks. It returns what
`Schema.load` returns, or raises ValidationError. The errors themselves come from the schema.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, missing
from marshmallow.decorators import POST_LOAD, PRE_LOAD, VALIDATES, VALIDATES_SCHEMA

#: Forms that a process keeps.
MAX_FORMS = 1024
#: What marshmallow tells its hooks.
_OPTIONS = {"many": False, "partial": None, "unknown": RAISE}


class Form:
    """The fields and hooks of a schema for data with some names.

    Args:
        schema: refuses unknown fields.
        names: the fields of the data.
    """

    def __init__(self, schema: Schema, names: frozenset[str]) -> None:
        self._fields = tuple(
            (each.data_key or name, each.attribute or name, each)
            for name, each in schema.load_fields.items()
            if each.required or each.load_default is not missing or (each.data_key or name) in names
        )
        self._known = frozenset(key for key, _, _ in self._fields)
        self._before, self._after = _hooks(schema, PRE_LOAD), _hooks(schema, POST_LOAD)
        self._checks = _hooks(schema, VALIDATES_SCHEMA)
        self._field_checks = tuple(
            (name, getattr(schema, method))
            for method, _, options in schema._hooks[VALIDATES]  # no public way
            for name in options["field_names"]
        )

    def load(self, data: Any) -> Any:
        """Return the loaded data.

        Raises:
            ValidationError: there is an error.
        """
        for hook in self._before:
            data = hook(data, **_OPTIONS)
        if not self._known.issuperset(data):
            raise ValidationError("unknown fields")
        loaded: Any = {}
        for key, name, field in self._fields:
            value = field.deserialize(data.get(key, missing), key, data)
            if value is not missing:
                loaded[name] = value
        for name, check in self._field_checks:
            if name in loaded:
                check(loaded[name], data_key=name)
        for check in self._checks:
            check(loaded, **_OPTIONS)
        for hook in self._after:
            loaded = hook(loaded, **_OPTIONS)
        return loaded


@lru_cache(maxsize=MAX_FORMS)
def form_of(schema: Schema, names: frozenset[str]) -> Form:
    """Return the form of a schema for data with these names."""
    return Form(schema, names)


def _hooks(schema: Schema, kind: str) -> tuple[Callable[..., Any], ...]:
    return tuple(getattr(schema, method) for method, _, _ in schema._hooks[kind])
