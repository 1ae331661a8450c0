"""Searches over all jobs: the history, and what it does not have yet.

The history may be half a second behind. So a search also reads the stream of changes after the
recorder's position, and takes these jobs from the ledger. When too many changes wait, because no
recorder runs, it walks through the newest jobs of the ledger instead, and adds from the history
what the ledger has forgotten. Without a history, only the ledger's jobs are found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.history import Entry, HistoryUnavailable, NoHistory, Query
from orchestrator.history.entry import readable
from orchestrator.jobs.event import Event
from orchestrator.jobs.model import Job
from orchestrator.ledger import UnreadableJob, identifiers
from orchestrator.runtime import Runtime

#: With more changes than this that are not recorded yet, a search reads the ledger's jobs.
MAX_WAITING_CHANGES = 1000
#: The most jobs of the ledger that one page reads, and those of one round trip.
MAX_EXAMINED_JOBS, WINDOW_JOBS = 1000, 200


class Source(StrEnum):
    """What a page was made of."""

    #: The history, and the changes that it lacks.
    HISTORY = "history"
    #: The jobs of the ledger, and older ones of the history.
    BOTH = "both"
    #: The jobs of the ledger only, because there is no history yet.
    LEDGER = "ledger"
    #: The jobs of the ledger only, because the history does not answer.
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class FoundJobs:
    """A page of jobs, newest first.

    Attributes:
        jobs: the jobs. A page may be short and still have a cursor.
        cursor: the id after which the next page begins; None: this is the last one.
        source: what the page was made of.
        unreadable: ids that may match, of jobs that this version cannot read, newest first.
    """

    jobs: list[Job]
    cursor: str | None
    source: Source
    unreadable: list[str]


#: The jobs of a page, its cursor, and the ids of the jobs that cannot be read.
Page = tuple[list[Job], str | None, list[str]]


@dataclass(frozen=True, slots=True)
class ChangedJobs:
    """The jobs whose changes are not recorded yet."""

    entries: dict[str, Entry]
    unreadable: list[UnreadableJob]

    @property
    def ids(self) -> set[str]:
        """All of them."""
        return {*self.entries, *(each.job_id for each in self.unreadable)}


def search(runtime: Runtime, query: Query, *, limit: int, cursor: str | None = None) -> FoundJobs:
    """Return the newest jobs that match a query.

    Args:
        runtime: of this process.
        query: the filters.
        limit: the most jobs of the page.
        cursor: the cursor of the page before.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    below = min(cursor or identifiers.LAST_ID, query.below)
    try:
        changed = _changed(runtime)
        if changed is not None:
            found = _from_history(runtime, query, changed, below, limit)
            return _found(found, Source.HISTORY)
        return _found(_from_both(runtime, query, below, limit, _older(runtime)), Source.BOTH)
    except HistoryUnavailable as error:
        source = Source.LEDGER if isinstance(error, NoHistory) else Source.AWAY
        return _found(_from_both(runtime, query, below, limit, None), source)


def _found(page: Page, source: Source) -> FoundJobs:
    jobs, cursor, unreadable = page
    return FoundJobs(jobs, cursor, source, sorted(set(unreadable), reverse=True))


def _changed(runtime: Runtime) -> ChangedJobs | None:
    """Return the jobs whose changes are not recorded yet, or None if they are too many.

    Raises:
        HistoryUnavailable: the database does not answer, or there is none.
    """
    for _ in range(2):  # the recorder may have trimmed a stream meanwhile
        positions = runtime.history.positions()
        if set(positions) != set(range(runtime.ledger.shards)):
            return None
        if any(position.incomplete_since is not None for position in positions.values()):
            return None
        places = {shard: position.position for shard, position in positions.items()}
        waiting = runtime.ledger.changes.after(places, MAX_WAITING_CHANGES)
        known = [changes for changes in waiting.values() if changes is not None]
        if len(known) == len(waiting):
            if sum(changes.entries for changes in known) >= MAX_WAITING_CHANGES:
                return None
            job_ids = [job_id for changes in known for job_id in changes.job_ids]
            return ChangedJobs(*readable(runtime.ledger.changes.jobs(job_ids)))
    return None


def _from_history(
    runtime: Runtime, query: Query, changed: ChangedJobs, below: str, limit: int
) -> Page:
    replaced = changed.ids
    page = runtime.history.find(query, below=below, limit=limit + len(replaced))
    last, entries = page.cursor or "", changed.entries
    fresh = [i for i, entry in entries.items() if last <= i < below and query.matches(entry)]
    ids = sorted({*fresh, *(i for i in page.ids if i not in replaced)}, reverse=True)
    shown = ids[:limit]
    cursor = shown[-1] if len(ids) > limit else page.cursor
    stored, lost = runtime.history.readable_entries([i for i in shown if i not in replaced])
    known = {**stored, **entries}
    jobs = [known[job_id].job for job_id in shown if job_id in known]
    return jobs, cursor, _may_match(query, [*changed.unreadable, *lost], cursor or "", below)


def _may_match(
    query: Query, unreadable: Sequence[UnreadableJob], last: str, below: str
) -> list[str]:
    """Return the ids of those jobs that may be on a page. It ends with the id `last`."""
    return [
        each.job_id for each in unreadable if last <= each.job_id < below and query.may_match(each)
    ]


Older = Callable[[Query, str, str, int], tuple[list[Entry], str | None, list[UnreadableJob]]]


def _older(runtime: Runtime) -> Older:
    """Return a function that returns jobs of the history between two ids."""

    def find(
        query: Query, above: str, below: str, limit: int
    ) -> tuple[list[Entry], str | None, list[UnreadableJob]]:
        page = runtime.history.find(query, above=above, below=below, limit=limit)
        known, unreadable = runtime.history.readable_entries(page.ids)
        entries = [known[job_id] for job_id in page.ids if job_id in known]
        return entries, page.cursor, unreadable

    return find


def _from_both(runtime: Runtime, query: Query, below: str, limit: int, older: Older | None) -> Page:
    """Walk through the ledger's jobs. Between them, add those that only the history has."""
    found: list[Job] = []
    first = below
    lost: list[UnreadableJob] = []
    for _ in range(MAX_EXAMINED_JOBS // WINDOW_JOBS):
        ids = _newest(runtime, query, below)
        at_end = len(ids) < WINDOW_JOBS
        above = "" if at_end else ids[-1]
        status = query.facet.get("status")
        wanted = runtime.ledger.overview.with_status(ids, status) if status else ids
        known, unreadable = readable(runtime.ledger.changes.jobs(wanted))
        entries = {i: entry for i, entry in known.items() if query.matches(entry)}
        lost += unreadable
        cursor = None
        if older:
            forgotten, cursor, unreadable = older(query, above, below, limit + 1 + len(ids))
            entries |= {e.job.id: e for e in forgotten if e.job.id not in ids}
            lost += [each for each in unreadable if each.job_id not in ids]
        last = cursor or above  # the history may go on only from here
        found += [entries[i].job for i in sorted(entries, reverse=True) if i >= last]
        if len(found) > limit:
            end = found[limit - 1].id
            return found[:limit], end, _may_match(query, lost, end, first)
        if not last:
            return found, None, _may_match(query, lost, "", first)
        below = last
    return found, below, _may_match(query, lost, below, first)


def _newest(runtime: Runtime, query: Query, below: str) -> list[str]:
    """Return the newest jobs of the ledger before an id."""
    if query.job_id:
        return [query.job_id] if query.job_id < below else []
    tenant = query.facet.get("tenant")
    return runtime.ledger.overview.newest(WINDOW_JOBS, below=below, tenant=tenant)


def find_job(runtime: Runtime, job_id: str) -> Job | None:
    """Return a job from the ledger, or from the history after the ledger has forgotten it.

    Raises:
        LedgerUnavailable: Redis is away.
        HistoryUnavailable: the ledger has no such job, and the history does not answer.
    """
    job = runtime.ledger.get(job_id)
    if job is not None:
        return job
    entry = forgotten_entry(runtime, job_id)
    return entry.job if entry else None


def find_entries(
    runtime: Runtime, job_ids: Sequence[str]
) -> tuple[dict[str, Entry], list[UnreadableJob]]:
    """Return jobs with their timelines and unconfirmed attempts, by id, as `find_job` does.

    Beside them are the jobs that this version cannot read.

    Raises:
        LedgerUnavailable: Redis is away.
        HistoryUnavailable: the ledger lacks one of the jobs, and the history does not answer.
    """
    wanted = [job_id for job_id in job_ids if identifiers.is_job_id(job_id)]
    found, unreadable = readable(runtime.ledger.changes.jobs(wanted))
    known = {*found, *(each.job_id for each in unreadable)}
    missing = [job_id for job_id in wanted if job_id not in known]
    if missing:
        try:
            forgotten, lost = runtime.history.readable_entries(missing)
        except NoHistory:
            return found, unreadable
        return found | forgotten, [*unreadable, *lost]
    return found, unreadable


def job_timeline(runtime: Runtime, job: Job) -> list[Event]:
    """Return the timeline of a job that `find_job` returned, oldest event first.

    Raises:
        LedgerUnavailable: Redis is away.
        HistoryUnavailable: the ledger has no such job, and the history does not answer.
    """
    events = runtime.ledger.events(job.id)
    if events:
        return events
    entry = forgotten_entry(runtime, job.id)
    return entry.events if entry else []


def forgotten_entry(runtime: Runtime, job_id: str) -> Entry | None:
    """Return a job of the history, or None.

    Raises:
        HistoryUnavailable: the history does not answer. This does not mean that there is none.
    """
    if not identifiers.is_job_id(job_id):
        return None
    try:
        return runtime.history.get(job_id)
    except NoHistory:
        return None
