"""Searches: the history and what it does not have yet give the same answer as a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.history import Entry
from orchestrator.history.entry import read_entries
from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger import keys
from orchestrator.operations import search as module
from orchestrator.operations.filters import read_query
from orchestrator.operations.search import Source, search
from tests.support import job_states
from tests.support.fakes import Harness

FILTERS: list[dict[str, str]] = [
    {},
    {"status": "queued"},
    {"status": "cancelled", "provider": "hiapi"},
    {"provider": "evolink"},
    {"model": "Nano-Banana-2"},
    {"tenant": "tests"},
    {"tenant": "nobody"},
    {"error": "content_policy"},
    {"metadata.sku": "17"},
    {"metadata.sku": "17", "status": "queued"},
    {"unconfirmed": "true"},
    {"unconfirmed": "false", "status": "failed"},
    {"at_risk": "true"},
    {"archive": "pending"},
    {"notification": "pending"},
    {"created_after": "2001-01-01"},
    {"created_before": "2001-01-01"},
    {"idempotency_key": "order-3"},
    {"q": "order-3"},
]


@dataclass
class Searched:
    """A harness with a history and its recorder."""

    harness: Harness
    recorder: Recorder

    def record(self) -> None:
        while self.recorder.record():
            pass

    def pages(self, filters: dict[str, str]) -> tuple[list[str], set[Source]]:
        """Return the ids of all pages, and their sources."""
        query = read_query(self.harness.runtime, filters.items())
        found: list[str] = []
        sources, cursor = set[Source](), None
        while True:
            page = search(self.harness.runtime, query, limit=3, cursor=cursor)
            assert len(page.jobs) <= 3
            found += [job.id for job in page.jobs]
            sources.add(page.source)
            cursor = page.cursor
            if cursor is None:
                return found, sources

    def check(self, entries: dict[str, Entry], source: Source) -> None:
        """Compare every filter with a loop over all jobs."""
        for filters in FILTERS:
            query = read_query(self.harness.runtime, filters.items())
            matching = [i for i, entry in entries.items() if query.matches(entry)]
            assert self.pages(filters) == (sorted(matching, reverse=True), {source}), filters

    def entries(self) -> dict[str, Entry]:
        """Return all jobs of the ledger."""
        ledger = self.harness.ledger
        ids = [job_id for page in ledger.changes.pages(0) for job_id in page]
        return {entry.job.id: entry for entry in read_entries(ledger, ids)}


@pytest.fixture
def searched(start: Callable[..., Harness], tmp_path: Path) -> Iterator[Searched]:
    history = History(f"sqlite:///{tmp_path}/history/history.db")
    made = start()
    harness = made.with_runtime(open_history=lambda: history)
    yield Searched(harness, Recorder(harness.ledger, history, harness.clock))
    history.close()


def work(harness: Harness) -> None:
    """Make jobs in many states."""
    for number in range(3):
        harness.enqueue(metadata={"sku": 17 if number else "x"})
        job_states.cancelled(harness, "evolink")
        job_states.unconfirmed(harness)
    job_states.refused(harness)
    job_states.given_up(harness)
    job_states.ended(harness)
    job_states.running(harness)
    keyed = {"key": "order-3", "tenant": "shop", "scope": "api"}
    job_states.keyed(harness, **keyed)


def test_without_a_recorder_the_jobs_of_the_ledger_are_found(searched: Searched) -> None:
    work(searched.harness)

    searched.check(searched.entries(), Source.LEDGER)


def test_recorded_jobs_and_fresh_changes_are_found(searched: Searched) -> None:
    work(searched.harness)
    for _ in range(3):
        searched.recorder.record()
    searched.check(searched.entries(), Source.HISTORY)

    work(searched.harness)  # not recorded yet
    for job_id in list(searched.entries())[:9:2]:
        searched.harness.ledger.cancel(job_id, now=searched.harness.clock())
    searched.check(searched.entries(), Source.HISTORY)


@pytest.mark.parametrize("window", [4, 200])
def test_while_the_recorder_is_behind_forgotten_and_new_jobs_are_found(
    searched: Searched, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    harness = searched.harness
    work(harness)
    for _ in range(3):
        searched.recorder.record()
    entries = searched.entries()
    for job_id in list(entries)[::2]:
        harness.ledger.overview.forget(job_id, before=harness.clock() + 1)
    monkeypatch.setattr(module, "MAX_WAITING_CHANGES", 1)
    monkeypatch.setattr(module, "WINDOW_JOBS", window)
    monkeypatch.setattr(module, "MAX_EXAMINED_JOBS", window * 2)

    work(harness)
    for job_id in entries:
        harness.ledger.cancel(job_id, now=harness.clock())

    now = searched.entries()
    assert len({*entries} - {*now}) > 1, "some are forgotten"
    searched.check(entries | now, Source.BOTH)


def test_a_cut_stream_is_not_trusted(searched: Searched) -> None:
    work(searched.harness)
    for _ in range(3):
        searched.recorder.record()
    new = searched.harness.enqueue()
    searched.harness.redis.xtrim(keys.changes(0), maxlen=0, approximate=False)

    assert searched.pages({"status": "queued"})[0][0] == new
    assert searched.pages({})[1] == {Source.BOTH}


def test_every_wrong_filter_is_named(searched: Searched) -> None:
    wrong = [("statuss", "failed"), ("error", "time_out"), ("at_risk", "maybe"), ("metadata.", "1")]

    with pytest.raises(InvalidRequest) as refused:
        read_query(searched.harness.runtime, wrong)

    messages = [str(violation) for violation in refused.value.violations]
    assert messages[0] == "statuss is not a known field; did you mean status?"
    assert messages[1].endswith('; got "time_out"; did you mean timeout?')
    assert messages[2] == 'at_risk must be true or false; got "maybe"'
    assert messages[3].startswith("metadata. is not a known field")
