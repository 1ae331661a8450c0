"""The recorder: writes the changes of the ledger to the history, in order and exactly once.

The position in the stream of changes is stored in the transaction that writes the jobs. A job is
read from the ledger after the shard is locked, and written as it is then. So a process that is
killed anywhere loses and doubles nothing, and several recorders do no harm.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from math import ceil
from time import monotonic
from typing import Protocol

from orchestrator import log
from orchestrator.history.entry import read_entries
from orchestrator.history.errors import HistoryUnavailable
from orchestrator.history.history import Batch, History, Position
from orchestrator.history.writer import Writer
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.ledger.changes import Changes

#: Time between two passes when nothing was left over. It bounds the age of a search's answer.
PASS_SECONDS = 0.5
#: After this many passes without a change, the time is longer. Redis' bill may count commands.
CALM_PASSES, CALM_PASS_SECONDS = 20, 1.0
#: Time until the next pass after a failure. Seconds.
RETRY_SECONDS = 1.0
#: Time between two counts of the recorders, which share the shards. Seconds.
COUNT_SECONDS = 5.0
#: Entries of all shards together that a pass writes in one transaction.
MAX_ENTRIES = 2000
#: Entries stay in the stream for at least this time after they were recorded, because searches read
#: them, too. Seconds.
KEEP_SECONDS = 10.0


def fill_shard(ledger: Ledger, history: History, shard: int, writer: Writer) -> Iterator[int]:
    """Write every job of a shard of the ledger, in pages. Yield the number of jobs of each page.

    It may run while everything else runs.

    Raises:
        LedgerUnavailable: Redis is away.
        HistoryUnavailable: the database does not answer.
    """
    for ids in ledger.changes.pages(shard):
        with history.writing(writer) as batch:
            batch.lock(shard)
            batch.put(read_entries(ledger, ids))
        yield len(ids)


class Stopping(Protocol):
    """Says when to stop."""

    def wait(self, timeout: float) -> bool:
        """Wait at most this many seconds. Return whether to stop."""


class Recorder:
    """Writes changes until it is stopped.

    Args:
        ledger: the source.
        history: the target.
        clock: ms.
    """

    def __init__(self, ledger: Ledger, history: History, clock: Callable[[], int]) -> None:
        self._ledger = ledger
        self._history = history
        self._clock = clock
        self._token = secrets.token_urlsafe(9)
        self._writer = Writer()
        self._fills: dict[int, tuple[int, Iterator[int]]] = {}
        self._kept: dict[int, str] = {}
        self._trim_at = 0.0
        #: Recorders that are heard, this one included, and when they are counted again.
        self._recorders, self._count_at = 1, 0.0
        self._ready = False
        self._away = ""
        #: Passes in a row without a change.
        self._calm = 0

    def run(self, stopping: Stopping) -> None:
        """Record changes until the event is set. Failures are logged, and repeated later."""
        wait = 0.0
        while not stopping.wait(wait):
            try:
                calm = CALM_PASS_SECONDS if self._calm >= CALM_PASSES else PASS_SECONDS
                wait = 0.0 if self.record() else calm
                self._note("")
            except LedgerUnavailable as error:
                wait = RETRY_SECONDS
                self._note("ledger", reason=str(error))
            except HistoryUnavailable as error:
                wait = RETRY_SECONDS
                self._note("history", reason=str(error))
                self._history.close()  # the database may have been replaced by an empty one
                self._ready = False

    def record(self) -> bool:
        """Make one pass. Return whether there may be more to do at once.

        Raises:
            LedgerUnavailable: Redis is away.
            HistoryUnavailable: the database does not answer.
        """
        if self._ledger.installation.mismatch:
            raise self._ledger.installation.mismatch
        if not self._ready:
            self._history.database.migrate()
            self._ready = True
        held = self._ledger.changes.hold(self._token, self._most_shards())
        known = self._history.positions()
        positions = {shard: known[shard].position for shard in held if shard in known}
        share = max(50, MAX_ENTRIES // max(1, len(positions)))
        by_shard = self._ledger.changes.after(positions, share) if positions else {}
        fresh = {shard: changes for shard, changes in by_shard.items() if changes}
        changed = {s: c for s, c in fresh.items() if c.entries}
        self._calm = 0 if changed else self._calm + 1
        self._write(positions, changed)
        for shard in held:
            if shard not in fresh:
                self._start_again(shard, known.get(shard))
        self._trim({shard: changes.position for shard, changes in fresh.items()})
        filling = self._fill({shard: known[shard] for shard in held if shard in known})
        return filling or any(changes.entries == share for changes in fresh.values())

    def _most_shards(self) -> int | None:
        """Return the most shards that this recorder takes, so that all recorders have a share."""
        shards = self._ledger.shards
        if shards > 1 and monotonic() >= self._count_at:
            self._count_at, now = monotonic() + COUNT_SECONDS, self._clock()
            known = self._ledger.processes.known()
            heard = [each for each in known if each.kind == "recorder" and not each.is_silent(now)]
            self._recorders = max(1, len(heard))
        return None if self._recorders == 1 else ceil(shards / self._recorders)

    def _note(self, away: str, **fields: str) -> None:
        """Log that a server went away, or came back, once."""
        if away and away != self._away:
            log.get().warning("history_delayed", away=away, **fields)
        elif self._away and not away:
            log.get().info("history_resumed")
        self._away = away

    def _write(self, positions: Mapping[int, str], fresh: Mapping[int, Changes]) -> None:
        if not fresh:
            return
        now = self._clock()
        with self._history.writing(self._writer) as batch:
            mine = [s for s in sorted(fresh) if self._has_position(batch, s, positions[s])]
            job_ids = [job_id for shard in mine for job_id in fresh[shard].job_ids]
            batch.put(read_entries(self._ledger, job_ids))
            for shard in mine:
                batch.move(shard, fresh[shard].position, now=now)

    @staticmethod
    def _has_position(batch: Batch, shard: int, position: str) -> bool:
        """Lock a shard. Return whether no other recorder has moved it since it was read."""
        current = batch.lock(shard)
        return current is not None and current.position == position

    def _start_again(self, shard: int, known: Position | None) -> None:
        """Continue at the end of the stream, because entries are missing. Read all jobs again."""
        position, now = self._ledger.changes.mark(shard), self._clock()
        with self._history.writing(self._writer) as batch:
            current = batch.lock(shard)
            if (current and current.position) != (known and known.position):
                return  # another recorder was faster
            batch.begin(shard, position, now=now)
        if known:
            fix = "orchestrator history rebuild also reads the manifests in the archive"
            log.get().warning("history_gap", shard=shard, after=known.position, fix=fix)

    def _fill(self, known: Mapping[int, Position]) -> bool:
        """Read a page of each shard that lacks jobs. Return whether there may be more."""
        for shard, position in known.items():
            since = position.incomplete_since
            if since is None:
                self._fills.pop(shard, None)
                continue
            if self._fills.get(shard, (None,))[0] != since:
                pages = fill_shard(self._ledger, self._history, shard, self._writer)
                self._fills[shard] = (since, pages)
            if next(self._fills[shard][1], None) is None:
                with self._history.writing(self._writer) as batch:
                    batch.complete(shard, since)
                del self._fills[shard]
                log.get().info("history_filled", shard=shard)
        for shard in self._fills.keys() - known.keys():
            del self._fills[shard]
        return bool(self._fills)

    def _trim(self, positions: Mapping[int, str]) -> None:
        """Remove the entries from the streams that were recorded before the last trim."""
        if monotonic() < self._trim_at:
            return
        self._trim_at = monotonic() + KEEP_SECONDS
        due = {shard: kept for shard, kept in self._kept.items() if shard in positions}
        if due:
            self._ledger.changes.forget(due)
        self._kept = dict(positions)
