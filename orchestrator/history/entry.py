"""One job in the history: what can be searched, and the job as the ledger had it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import orjson

from orchestrator import log
from orchestrator.jobs.event import Event
from orchestrator.jobs.model import FollowUpStatus, Job, Outcome
from orchestrator.jobs.views import cost_view
from orchestrator.ledger import Ledger, codec
from orchestrator.ledger.changes import StoredJob
from orchestrator.ledger.refusals import UnreadableJob
from orchestrator.ledger.timeline import read_events

#: The columns of a facet. An absent error code is an empty text.
FACET_COLUMNS = ("tenant", "provider", "model", "status", "error")
#: The size of a term. Bytes.
TERM_BYTES = 16
#: The most values of a job's metadata that can be searched. The first ones count.
MAX_METADATA_TERMS = 100
#: Fields of a job that only the holder of a lease needs.
_PRIVATE = frozenset({"lease", "archive.lease", "notify.lease", "confirm.lease", "handed"})


def term(kind: str, *parts: str) -> bytes:
    """Return the term of something that a job has.

    Args:
        kind: task, key, batch or metadata.
        *parts: for metadata the name and the value; otherwise the value.
    """
    text = "\0".join((kind, *parts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=TERM_BYTES).digest()


def as_text(value: Any) -> str | None:
    """Return a value of metadata as a filter names it; None: it cannot be searched."""
    if isinstance(value, str):
        return value
    return None if isinstance(value, dict | list) else orjson.dumps(value).decode()


def facet_text(value: str) -> str:
    """Return a text as a facet holds it. PostgreSQL holds no null characters."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def recorded_part(stored: StoredJob) -> StoredJob:
    """Return a job of the ledger as the history has it."""
    fields = {name: value for name, value in stored.fields.items() if name not in _PRIVATE}
    return StoredJob(stored.id, fields, stored.events, stored.unconfirmed)


def read_document(job_id: str, fields: str, events: str, unconfirmed: str) -> StoredJob:
    """Return the job in a row of `documents`."""
    lists = tuple(orjson.loads(events)), tuple(orjson.loads(unconfirmed))
    return StoredJob(job_id, orjson.loads(fields), *lists)


@dataclass(frozen=True, slots=True)
class Entry:
    """A job in the history. Its repr leaves out the job, which holds a prompt."""

    job: Job
    stored: StoredJob

    @classmethod
    def of(cls, stored: StoredJob) -> Self:
        """Return the entry of a job in the ledger."""
        kept = recorded_part(stored)
        return cls(codec.read_job(stored.id, kept.fields), kept)

    def __repr__(self) -> str:
        return f"Entry({self.job.id})"

    @property
    def events(self) -> list[Event]:
        """The timeline, oldest event first."""
        return read_events(self.stored.events, self.stored.fields)

    @property
    def facet(self) -> tuple[str, str, str, str, str]:
        """The values of FACET_COLUMNS."""
        job = self.job
        error = job.error.code.value if job.error else ""
        values = (job.tenant, job.provider, job.model, job.status.value, error)
        tenant, provider, model, status, error = map(facet_text, values)
        return (tenant, provider, model, status, error)

    def terms(self) -> set[bytes]:
        """Return what identifies the job besides its facet."""
        return set(self._terms())

    def row(self) -> dict[str, Any]:
        """Return the columns of `jobs`, without the facet."""
        job, cost = self.job, cost_view(self.job) or {}
        return {
            "id": job.id,
            "created_at": job.created_at,
            "updated_at": job.updated_at,
            "submitted_at": job.attempts[0].submitted_at if job.attempts else None,
            "settled_at": job.settled_at,
            "settled_by": job.settled_by.value if job.settled_by else None,
            "attempts": len(job.attempts),
            "images": len(job.all_images),
            "archived": sum(image.copy is not None for image in job.all_images),
            "cost_amount": cost.get("amount"),
            "cost_unit": cost.get("unit"),
            "cost_source": cost.get("source"),
            "unconfirmed": bool(self.stored.unconfirmed),
            "expiring_at": self.expires_at(FollowUpStatus.PENDING),
            "given_up_until": self.expires_at(FollowUpStatus.DEAD),
            "archive": job.archive.status.value if job.archive else None,
            "notification": job.notification.status.value if job.notification else None,
        }

    def document(self) -> dict[str, str]:
        """Return the columns of `documents`.

        The fields are sorted: Redis has another order of them after a restart.
        """
        stored = self.stored
        return {
            "id": stored.id,
            "fields": orjson.dumps(dict(stored.fields), option=orjson.OPT_SORT_KEYS).decode(),
            "events": orjson.dumps(stored.events).decode(),
            "unconfirmed": orjson.dumps(stored.unconfirmed).decode(),
        }

    def expires_at(self, status: FollowUpStatus) -> int | None:
        """Return when the first link without a copy expires (ms), if the archive has a status."""
        job = self.job
        if job.archive is None or job.archive.status is not status or job.settled_at is None:
            return None
        left = tuple(image for image in job.all_images if image.copy is None)
        return Outcome.succeeded(left).expires_at(job.settled_at) if left else None

    def _terms(self) -> Iterator[bytes]:
        fields, request = self.stored.fields, self.job.request
        for attempt in self.job.attempts:
            if attempt.task_id:
                yield term("task", attempt.task_id)
        for kind in ("key", "batch"):
            if value := fields.get(kind):
                yield term(kind, value)
        for name, value in metadata_values(request.metadata):
            yield term("metadata", name, value)


def readable(stored: Iterable[StoredJob]) -> tuple[dict[str, Entry], list[UnreadableJob]]:
    """Return jobs by id, and those that this version cannot read."""
    entries: dict[str, Entry] = {}
    unreadable = []
    for each in stored:
        try:
            entries[each.id] = Entry.of(each)
        except UnreadableJob as error:
            unreadable.append(error)
    return entries, unreadable


def read_entries(ledger: Ledger, job_ids: Sequence[str]) -> list[Entry]:
    """Return jobs as the ledger has them now. Forgotten and unreadable ones are left out."""
    entries, unreadable = readable(ledger.changes.jobs(job_ids))
    for each in unreadable:
        log.get().error("history_job_unreadable", job=each.job_id, reason=type(each).__name__)
    return list(entries.values())


def metadata_values(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a job's metadata that can be searched.

    A name in an inner object has the outer name and a dot before it.
    """
    left = MAX_METADATA_TERMS
    layer = list(metadata.items())
    while layer and left:
        inner: list[tuple[str, Any]] = []
        for name, value in layer:
            if isinstance(value, dict):
                inner += [(f"{name}.{key}", each) for key, each in value.items()]
            elif (text := as_text(value)) is not None and left:
                left -= 1
                yield name, text
        layer = inner
