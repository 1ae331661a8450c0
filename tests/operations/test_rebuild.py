"""Rebuilding the history from the ledger and from manifests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.history import Query
from orchestrator.history.writer import Writer
from orchestrator.jobs.views import event_view, job_view
from orchestrator.operations.manifest import path
from orchestrator.operations.rebuild import Rebuilt, rebuild
from tests.history.kit import with_history
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, archived, picture
from tests.support.fakes import Harness


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Iterator[Harness]:
    yield from with_history(archive_kit.harness(start, tmp_path), tmp_path)


def forget(harness: Harness, job_id: str) -> None:
    result = harness.ledger.overview.forget(job_id, before=harness.clock() + 1)
    assert result == "forgotten"


def test_a_new_history_gets_the_jobs_of_the_ledger_and_the_forgotten_ones_of_the_archive(
    harness: Harness,
) -> None:
    queued, gone = harness.enqueue(), archived(harness, Gallery(harness).job(picture()))
    job, events = harness.job(gone), harness.ledger.events(gone)
    forget(harness, gone)
    forget(harness, lost := job_states.cancelled(harness))
    read: list[int] = []

    result = rebuild(harness.runtime, advanced=read.append)

    history = harness.runtime.history
    assert result == Rebuilt(from_ledger=1, from_manifests=1)
    assert sum(read) == 2
    assert history.find(Query(), limit=9).ids == sorted([queued, gone], reverse=True)
    assert history.get(lost) is None
    entry = history.get(gone)
    assert entry is not None
    shown, expected = job_view(entry.job, "https://x"), job_view(job, "https://x")
    assert shown | {"archive": expected["archive"], "notification": None} == expected
    known = [event_view(event) for event in entry.events]
    assert known == [event_view(event) for event in events][: len(known)]
    assert entry.terms(), "its provider task is found"
    position = history.positions()[0]
    assert position.incomplete_since is None


def test_a_rebuild_repairs_and_may_be_repeated(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(picture()))
    rebuild(harness.runtime)
    history = harness.runtime.history
    entry = history.get(job_id)
    assert entry is not None
    with history.writing(Writer()) as batch:
        batch.remove([entry.job.id])

    assert rebuild(harness.runtime) == rebuild(harness.runtime) == Rebuilt(1, 0)

    again = history.get(job_id)
    assert again is not None
    assert again.document() == entry.document()


def test_a_manifest_ends_a_job_whose_end_was_not_recorded(harness: Harness) -> None:
    job_id = harness.enqueue()
    rebuild(harness.runtime)
    open_entry = harness.runtime.history.get(job_id)
    ended = archived(harness, Gallery(harness).job(picture()))
    content = harness.runtime.storage.get(path(ended)).replace(ended.encode(), job_id.encode())
    harness.runtime.storage.put(path(job_id), content, "application/json")
    harness.ledger.cancel(job_id, now=harness.clock())
    forget(harness, job_id)

    assert rebuild(harness.runtime).from_manifests == 1

    assert open_entry is not None
    entry = harness.runtime.history.get(job_id)
    assert entry is not None
    assert entry.job.status.terminal


def test_old_and_unreadable_manifests_are_left_out(harness: Harness) -> None:
    gone = archived(harness, Gallery(harness).job(picture()))
    forget(harness, gone)
    harness.runtime.storage.put(path(harness.enqueue()), b"{}", "application/json")
    harness.runtime.storage.put("notes/job.json", b"{}", "application/json")
    harness.clock.forward(400 * 86_400)

    assert rebuild(harness.runtime) == Rebuilt(1, 0)
