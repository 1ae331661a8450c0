"""Helpers for tests of the history."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from redis import Redis

from orchestrator.history import Entry
from orchestrator.history.entry import read_entries
from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.ledger import Ledger
from tests.ledger import kit
from tests.ledger.test_model import ConcurrentCalls
from tests.support.fakes import Clock, Harness

#: Passes that begin a new history: one gives the shards a position, the others read all jobs.
FIRST_PASSES = 4


def with_history(harness: Harness, folder: Path) -> Iterator[Harness]:
    """Yield a harness with a history in SQLite. Nothing is recorded yet."""
    history = History(f"sqlite:///{folder}/history/history.db")
    yield harness.with_runtime(open_history=lambda: history)
    history.close()


def recorder(ledger: Ledger, history: History) -> Recorder:
    return Recorder(ledger, history, Clock())


def started(ledger: Ledger, history: History) -> Recorder:
    """Return a recorder that has filled a history."""
    made = recorder(ledger, history)
    for _ in range(FIRST_PASSES):
        made.record()
    assert all(p.incomplete_since is None for p in history.positions().values())
    return made


def catch_up(made: Recorder) -> None:
    while made.record():
        pass


def random_run(ledger: Ledger, ids: list[str], seed: int, steps: int) -> Callable[[], None]:
    """Return a function that makes some random calls of the ledger, as workers and callers do."""
    calls, chance = ConcurrentCalls(ledger, ids), random.Random(seed)
    roles = [calls.work] * 4 + [calls.send] * 3 + [calls.cancel_job] + [calls.follow] * 3

    def run() -> None:
        for _ in range(steps):
            chance.choice(roles)(chance)

    return run


def differences(ledger: Ledger, history: History) -> list[str]:
    """Return the jobs of the ledger that the history has not, or has in another state."""
    ids = [
        job_id
        for shard in range(ledger.shards)
        for page in ledger.changes.pages(shard)
        for job_id in page
    ]
    known = history.entries(ids)
    return [e.job.id for e in read_entries(ledger, ids) if not same(known.get(e.job.id), e)]


def same(one: Entry | None, other: Entry) -> bool:
    return one is not None and one.document() == other.document()


def cut(redis: Redis, key: str) -> None:
    """Remove all entries of a stream, as its cap does."""
    redis.xtrim(key, maxlen=0, approximate=False)


__all__ = ["kit"]
