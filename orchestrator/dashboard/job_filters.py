"""The filters of the jobs page: read from its URL, and shown as a form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from flask import request, url_for

from orchestrator.api.filters import ANY_METADATA, filter_schemas
from orchestrator.dashboard import views
from orchestrator.history import Query
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger.identifiers import is_job_id
from orchestrator.operations.filters import FILTERS, METADATA, TIME, check_number, read_query
from orchestrator.runtime import Runtime

#: Where a page begins. It is no filter.
CURSOR = "cursor"
#: The two inputs that make a filter by metadata.
METADATA_KEY, METADATA_VALUE = "metadata_key", "metadata_value"
#: The URL as it is.
NO_CHANGES: Mapping[str, str | None] = {}
#: Filters that have a place of their own on the page.
APART = ("q", "tenant", ANY_METADATA)


@dataclass(frozen=True, slots=True)
class Field:
    """An input of the form.

    Attributes:
        name: of the filter.
        hint: what it means.
        kind: choice, flag, time or text.
        options: of a choice.
        error: why the value is wrong, as a sentence.
    """

    name: str
    hint: str
    kind: str
    options: tuple[str, ...]
    value: str
    error: str | None


class JobFilters:
    """The filters in the URL of a request.

    Attributes:
        values: the filters but the tenant, as text, in the order of the URL.
        tenant: whose jobs; None: all.
        cursor: the id after which the page begins, or None. Other text is ignored.

    Raises:
        InvalidRequest: there are too many filters, or the tenant is wrong.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._given = [
            (name, value)
            for name, value in request.args.items(multi=True)
            if name not in (CURSOR, "tenant", METADATA_KEY, METADATA_VALUE)
        ]
        check_number(len(self._given))
        self.values = dict(self._given)
        self.tenant = views.chosen_tenant()
        cursor = request.args.get(CURSOR, "")
        self.cursor = cursor if is_job_id(cursor) else None

    @cached_property
    def errors(self) -> Mapping[str, str]:
        """The wrong filters: a sentence by name."""
        try:
            self.query()
        except InvalidRequest as error:
            return {violation.field: str(violation) for violation in error.violations}
        return {}

    def query(self) -> Query:
        """Return the query of the filters.

        Raises:
            InvalidRequest: a filter is unknown or has a wrong value.
        """
        tenant = [("tenant", self.tenant)] if self.tenant else []
        return read_query(self._runtime, [*self._given, *tenant])

    def for_bulk(self) -> dict[str, Any]:
        """Return the filters as a bulk action takes them: JSON values, and the tenant."""
        values: dict[str, Any] = {
            name: value in ("true", "1") if self._kind(name) == "flag" else value
            for name, value in self._given
        }
        return values | ({"tenant": self.tenant} if self.tenant else {})

    @property
    def search(self) -> str:
        """The text of the search box."""
        return self.values.get("q", "")

    @property
    def status(self) -> str:
        """The chosen status, or nothing."""
        return self.values.get("status", "")

    def fields(self) -> list[Field]:
        """Return the inputs of all filters that have no place of their own."""
        known = [name for name in FILTERS if name not in APART]
        return [self.field(name) for name in (*known, *self._metadata())]

    def field(self, name: str) -> Field:
        """Return the input of a filter."""
        meaning = FILTERS.get(name, "")
        return Field(
            name,
            _sentence(meaning),
            self._kind(name),
            tuple(self._schemas.get(name, {}).get("enum", ())),
            self.values.get(name, ""),
            self.errors.get(name),
        )

    def others(self) -> list[tuple[str, str]]:
        """Return errors of names that are no filters."""
        return [(name, text) for name, text in self.errors.items() if not self._has_input(name)]

    def more(self) -> bool:
        """Return whether an input among the many is wrong. What is set stands below them."""
        return any(name != "q" for name in self.errors)

    def url(self, changes: Mapping[str, str | None] = NO_CHANGES, endpoint: str = "jobs") -> str:
        """Return the URL of these filters with changes. None removes a filter."""
        values: dict[str, str | None] = {**self.values}
        if self.tenant and views.caller().admin:
            values["tenant"] = self.tenant
        values |= changes
        return _url(endpoint, [(name, value) for name, value in values.items() if value])

    def without(self, name: str) -> str:
        """Return the URL without a filter."""
        return self.url({name: None})

    def _metadata(self) -> list[str]:
        return [name for name in self.values if name.startswith(METADATA)]

    def _has_input(self, name: str) -> bool:
        return (name in FILTERS and "<" not in name) or name in self._metadata()

    @cached_property
    def _schemas(self) -> dict[str, dict[str, Any]]:
        return filter_schemas(self._runtime.providers)

    def _kind(self, name: str) -> str:
        schema = self._schemas.get(name, {})
        if "enum" in schema:
            return "choice"
        if schema.get("type") == "boolean":
            return "flag"
        return "time" if schema.get("pattern") == f"^{TIME.pattern}$" else "text"


def clean_url() -> str | None:
    """Return the URL of this request without empty inputs, or None if it has none.

    A form sends all its inputs. The two inputs for metadata become one filter.
    """
    given = list(request.args.items(multi=True))
    kept = [
        (name, value.strip())
        for name, value in given
        if value.strip() and name not in (METADATA_KEY, METADATA_VALUE)
    ]
    key, value = (request.args.get(name, "").strip() for name in (METADATA_KEY, METADATA_VALUE))
    if key and value:
        kept.append((f"{METADATA}{key}", value))
    return None if kept == given else _url("jobs", kept)


def filters_url(filters: Mapping[str, Any]) -> str:
    """Return the URL of the jobs page with the filters of a bulk action."""
    texts = {n: str(v).lower() if isinstance(v, bool) else str(v) for n, v in filters.items()}
    if not views.caller().admin:
        texts.pop("tenant", None)
    return _url("jobs", texts.items())


def _sentence(meaning: str) -> str:
    """Return the meaning of a filter without the marks of code, and without its value."""
    text = meaning.removeprefix("`true`: ").replace("`", "")
    return text[:1].upper() + text[1:]


def _url(endpoint: str, pairs: Iterable[tuple[str, Any]]) -> str:
    query = urlencode(list(pairs))
    path = url_for(f"dashboard.{endpoint}")
    return f"{path}?{query}" if query else path
