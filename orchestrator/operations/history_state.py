"""Whether the history is up to date, and whether it equals the ledger."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from orchestrator.history import HistoryUnavailable, NoHistory
from orchestrator.history.entry import recorded_part
from orchestrator.ledger import Ledger

if TYPE_CHECKING:
    from orchestrator.history.history import History

#: A history with an older change that is not recorded yet is behind. Seconds.
BEHIND_SECONDS = 10.0
#: A job that differs is read again, because the recorder may be about to write it: the time between
#: two reads, and their number. Seconds.
RECHECK_SECONDS, RECHECKS = 3.0, 10
#: Jobs of the history that are read at a time.
PAGE_JOBS = 500
#: The most jobs that differ and are read again together, so that they share the waits.
RECHECKED_JOBS = 50_000


class HistoryState(StrEnum):
    """The state of the history."""

    #: It has every change, but for the last moments.
    CURRENT = "current"
    #: No recorder runs, or it cannot keep up. The stream has the changes.
    BEHIND = "behind"
    #: It is new, or the stream was cut. The recorder reads all jobs.
    FILLING = "filling"
    #: The database does not answer.
    AWAY = "away"
    #: No recorder has ever run.
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """The state of the history, the age of the oldest change that it lacks, and the reason."""

    state: HistoryState
    lag_seconds: float | None = None
    reason: str = ""

    def view(self) -> dict[str, Any]:
        """Return the report as JSON-ready data."""
        return {"state": self.state.value, "lag_seconds": self.lag_seconds}


def history_report(ledger: Ledger, history: History, *, now: int) -> HistoryReport:
    """Return the state of the history at a time (ms).

    Raises:
        LedgerUnavailable: Redis is away.
    """
    try:
        positions = history.positions()
    except NoHistory:
        return HistoryReport(HistoryState.ABSENT)
    except HistoryUnavailable as error:
        return HistoryReport(HistoryState.AWAY, reason=str(error))
    places = {shard: position.position for shard, position in positions.items()}
    waiting = ledger.changes.after(places, 1).values() if places else ()
    lacks = any(p.incomplete_since is not None for p in positions.values()) or None in waiting
    if lacks or len(positions) < ledger.shards:
        return HistoryReport(HistoryState.FILLING)
    ages = [now - each.first_ms for each in waiting if each and each.first_ms is not None]
    lag = max([0, *ages]) / 1000
    state = HistoryState.BEHIND if lag > BEHIND_SECONDS else HistoryState.CURRENT
    return HistoryReport(state, lag)


def differences(
    ledger: Ledger,
    history: History,
    sleep: Callable[[float], None],
    left_out: Collection[str] = (),
) -> Iterator[tuple[str, str]]:
    """Yield each job of the ledger, and what differs in the history; empty: nothing.

    Jobs in `left_out` are not read.

    Raises:
        LedgerUnavailable: Redis is away.
        HistoryUnavailable: the database does not answer.
    """
    waiting: dict[str, int] = {}
    for shard in range(ledger.shards):
        for page in ledger.changes.pages(shard):
            ids = [job_id for job_id in page if job_id not in left_out]
            wrong = _different(ledger, history, ids)
            yield from ((job_id, "") for job_id in ids if job_id not in wrong)
            waiting |= wrong
            if len(waiting) >= RECHECKED_JOBS:
                yield from _rechecked(ledger, history, sleep, waiting)
                waiting = {}
    yield from _rechecked(ledger, history, sleep, waiting)
    for job_id in _lost(ledger, history):
        yield job_id, f"{job_id} is open in the history only"


def _rechecked(
    ledger: Ledger, history: History, sleep: Callable[[float], None], waiting: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """Yield jobs that differed, and what still differs in the history; empty: nothing."""
    wrong = dict(waiting)
    for _ in range(RECHECKS if wrong else 0):
        sleep(RECHECK_SECONDS)
        again: dict[str, int] = {}
        left = list(wrong)
        for first in range(0, len(left), PAGE_JOBS):
            again |= _different(ledger, history, left[first : first + PAGE_JOBS])
        wrong = {job_id: seen for job_id, seen in again.items() if seen == wrong[job_id]}
        if not wrong:
            break
    for job_id in waiting:
        yield job_id, f"{job_id} differs in the history" if job_id in wrong else ""


def _different(ledger: Ledger, history: History, ids: list[str]) -> dict[str, int]:
    """Return the jobs that differ, each with a hash of what the ledger and the history have."""
    known, different = history.stored_jobs(ids), {}
    for stored in map(recorded_part, ledger.changes.jobs(ids)):
        other = known.get(stored.id)
        if other is None or recorded_part(other) != stored:
            different[stored.id] = hash((repr(stored), repr(other)))
    return different


def _lost(ledger: Ledger, history: History) -> Iterator[str]:
    """Yield the open jobs of the history that the ledger does not know."""
    after = ""
    while ids := history.open_ids(after=after, limit=PAGE_JOBS):
        known = ledger.overview.existing(ids)
        yield from (job_id for job_id in ids if job_id not in known)
        after = ids[-1]
