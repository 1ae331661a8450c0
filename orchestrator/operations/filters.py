"""The filters of a list of jobs, as the API, the command line and bulk actions name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.enqueuing import MAX_KEY_CHARACTERS
from orchestrator.history import Query
from orchestrator.history.entry import facet_text, term
from orchestrator.history.query import any_id, key_terms
from orchestrator.jobs.model import ErrorCode, FollowUpStatus, Status
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jobs.validation import (
    InvalidRequest,
    KnownFields,
    OneOfNames,
    Violation,
    encodes,
)
from orchestrator.jsonio import rfc3339
from orchestrator.ledger.identifiers import is_job_id
from orchestrator.operations.stats import RISK_HOURS
from orchestrator.runtime import Runtime

#: The longest text of a filter. Characters.
MAX_CHARACTERS = 1000
#: The most filters of one search. A page has a link to the same search without each of them.
MAX_FILTERS = 20
#: The start of a filter by metadata. The rest is the name of the value.
METADATA = "metadata."
#: Every filter, with its meaning.
FILTERS: Mapping[str, str] = {
    "status": "Only jobs with this status.",
    "provider": "Only jobs of this provider.",
    "model": "Only jobs of this model, as the request named it.",
    "tenant": "Only jobs of this tenant; for administrators.",
    "task_id": "The job of this provider task.",
    "idempotency_key": "The job of a key, or of the Celery task of that id.",
    "error": "Only jobs that failed with this error code.",
    "batch": "Only jobs of this batch.",
    "metadata.<key>": "Only jobs with this value in their metadata; `metadata.a.b` is the value of"
    " `b` in the object `a`.",
    "created_after": "Only jobs that were created at this time or later: RFC 3339 or a date, UTC.",
    "created_before": "Only jobs that were created before this time.",
    "unconfirmed": "`true`: only jobs with an attempt that may have been charged without a known"
    " task.",
    "at_risk": "`true`: only jobs with an image that has no copy and may be lost soon.",
    "archive": "Only jobs whose images are archived (`done`), will be (`pending`), or were given up"
    " (`dead`), or are not archived (`off`).",
    "notification": "Only jobs whose caller was notified (`done`), will be (`pending`), could not"
    " be (`dead`), or wants no more notifications (`gone`).",
    "q": "The jobs of an id of any kind: job, provider task, batch, idempotency key, Celery task.",
}
#: Statuses that an archive or a notification never has after the outcome.
_NO_ARCHIVE = (FollowUpStatus.WAITING, FollowUpStatus.GONE)
_NO_NOTIFICATION = (FollowUpStatus.WAITING, FollowUpStatus.OFF)
#: The statuses that a filter by a follow-up takes. A job without an outcome has none of them.
FOLLOW_UP_STATUSES: Mapping[str, list[str]] = {
    "archive": [s.value for s in FollowUpStatus if s not in _NO_ARCHIVE],
    "notification": [s.value for s in FollowUpStatus if s not in _NO_NOTIFICATION],
}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
#: The form of a time.
TIME = re.compile(
    r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)
_TIMES = "a time such as 2026-11-28T16:00:00Z, or a date"


def is_filter(name: str) -> bool:
    """Return whether a name is a filter."""
    return name.startswith(METADATA) or (name in FILTERS and "<" not in name)


def read_query(
    runtime: Runtime, filters: Iterable[tuple[str, Any]], *, also: Iterable[str] = ()
) -> Query:
    """Return the query of some filters.

    Args:
        runtime: of this process.
        filters: names and values. A name may stand once.
        also: other names that the caller knows, for suggestions.

    Raises:
        InvalidRequest: with every filter that is unknown or has a wrong value.
    """
    given = list(filters)
    check_number(len(given))
    reader = _Reader(runtime, (*FILTERS, *also))
    for name, value in given:
        reader.read(name, value)
    reader.check_times()
    if reader.violations:
        raise InvalidRequest(*reader.violations)
    return reader.query()


def check_number(filters: int) -> None:
    """Refuse a search with too many filters.

    Raises:
        InvalidRequest: there are more than MAX_FILTERS.
    """
    if filters > MAX_FILTERS:
        raise InvalidRequest(Violation("filter", filters, f"at most {MAX_FILTERS} filters"))


class _Reader:
    """Collects the parts of a query."""

    def __init__(self, runtime: Runtime, known: Iterable[str]) -> None:
        self._runtime = runtime
        self._known = KnownFields(known)
        self._seen: set[str] = set()
        self._facet: dict[str, str] = {}
        self._terms: list[tuple[bytes, ...]] = []
        self._rest: dict[str, Any] = {}
        self._follow_ups: dict[str, str] = {}
        self.violations: list[Violation] = []

    def read(self, name: str, value: Any) -> None:
        """Read one filter."""
        if not is_filter(name) or name == METADATA:
            self.violations.append(Violation(name, value, self._known))
        elif name in self._seen:
            self.violations.append(Violation(name, value, "given once"))
        else:
            self._seen.add(name)
            self._read(name, value)

    def check_times(self) -> None:
        """Refuse times between which no job can be created."""
        after, before = self._rest.get("after"), self._rest.get("before")
        if after is not None and before is not None and after >= before:
            allowed = f"earlier than created_before, which is {rfc3339(before)}"
            self.violations.append(Violation("created_after", rfc3339(after), allowed))

    def query(self) -> Query:
        """Return the query of all filters."""
        return Query(
            facet=self._facet,
            terms=tuple(self._terms),
            follow_ups=self._follow_ups,
            now=self._runtime.clock(),
            risk_ms=int(RISK_HOURS * 3_600_000),
            **self._rest,
        )

    def _read(self, name: str, value: Any) -> None:
        if name.startswith(METADATA):
            self._text(
                name, value, lambda text: self._term("metadata", name[len(METADATA) :], text)
            )
            return
        readers: Mapping[str, Callable[[], None]] = {
            "status": lambda: self._one_of(name, value, [s.value for s in Status]),
            "provider": lambda: self._one_of(name, value, list(self._runtime.providers)),
            "error": lambda: self._one_of(name, value, [code.value for code in ErrorCode]),
            "model": lambda: self._text(name, value, lambda text: self._set(name, text)),
            "tenant": lambda: self._set(name, tenant_name(value)),
            "task_id": lambda: self._text(name, value, lambda text: self._term("task", text)),
            "batch": lambda: self._text(name, value, lambda text: self._term("batch", text)),
            "idempotency_key": lambda: self._key(name, value),
            "created_after": lambda: self._time(name, "after", value),
            "created_before": lambda: self._time(name, "before", value),
            "unconfirmed": lambda: self._boolean(name, value),
            "at_risk": lambda: self._boolean(name, value),
            "archive": lambda: self._follow_up(name, value),
            "notification": lambda: self._follow_up(name, value),
            "q": lambda: self._text(name, value, self._any_id),
        }
        readers[name]()

    def _set(self, name: str, text: str) -> None:
        self._facet[name] = facet_text(text)

    def _term(self, kind: str, *parts: str) -> None:
        self._terms.append((term(kind, *parts),))

    def _any_id(self, text: str) -> None:
        if is_job_id(text):
            self._rest["job_id"] = text
        else:
            self._terms.append(any_id(text))

    def _text(self, name: str, value: Any, take: Callable[[str], None]) -> None:
        allowed = f"1 to {MAX_CHARACTERS} characters of text"
        is_text = isinstance(value, str) and encodes(name) and encodes(value)
        if not is_text or not 1 <= len(value) <= MAX_CHARACTERS:
            self.violations.append(Violation(name, value, allowed))
        else:
            take(value)

    def _key(self, name: str, value: Any) -> None:
        if isinstance(value, str) and 1 <= len(value) <= MAX_KEY_CHARACTERS and value.isprintable():
            self._terms.append(key_terms(value))
        else:
            allowed = f"1 to {MAX_KEY_CHARACTERS} printable characters"
            self.violations.append(Violation(name, value, allowed))

    def _one_of(self, name: str, value: Any, allowed: list[str]) -> None:
        if value in allowed:
            self._set(name, value)
        else:
            self.violations.append(Violation(name, value, OneOfNames(allowed)))

    def _follow_up(self, name: str, value: Any) -> None:
        allowed = FOLLOW_UP_STATUSES[name]
        if value in allowed:
            self._follow_ups[name] = value
        else:
            self.violations.append(Violation(name, value, OneOfNames(allowed)))

    def _boolean(self, name: str, value: Any) -> None:
        known = value if isinstance(value, bool) else _BOOLEANS.get(value)
        if known is None:
            self.violations.append(Violation(name, value, "true or false"))
        else:
            self._rest[name] = known

    def _time(self, name: str, field: str, value: Any) -> None:
        try:
            if not TIME.fullmatch(value):
                raise ValueError
            moment = datetime.fromisoformat(value.upper())
            known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            time = round(known.timestamp() * 1000)
            rfc3339(time)  # it can be shown: its year in UTC has four digits
            self._rest[field] = time
        except (TypeError, ValueError, OverflowError):
            self.violations.append(Violation(name, value, _TIMES))
