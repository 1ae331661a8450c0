"""Erasing a tenant: its ended jobs leave the ledger, the history and the archive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from orchestrator.history import HistoryUnavailable, Query
from orchestrator.history.schema import documents
from orchestrator.history.writer import Writer
from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger import LedgerUnavailable, keys
from orchestrator.ledger.processes import Process
from orchestrator.operations import erasure, thumbnails
from orchestrator.operations.erasure import Erased, erase_tenant
from orchestrator.operations.locate_image import Archived
from orchestrator.operations.manifest import path
from orchestrator.operations.rebuild import rebuild
from orchestrator.storage.storage import NotStored, Storage, StorageError
from tests.history.kit import catch_up, started, with_history
from tests.ledger import kit
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, archived, picture
from tests.support.fakes import Harness, unavailable_ledger

#: The tenant of the harness' jobs, and another one.
TENANT, OTHER = "tests", "default"


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Iterator[Harness]:
    yield from with_history(archive_kit.harness(start, tmp_path), tmp_path)


def erase(harness: Harness, tenant: str = TENANT, *, dry_run: bool = False) -> Erased:
    return erase_tenant(harness.runtime, tenant, actor="cli:ops", dry_run=dry_run)


def done(harness: Harness, number: int = 0) -> str:
    """Return an archived job without a pending follow-up."""
    return archived(harness, Gallery(harness).job(picture(number)))


def forget(harness: Harness, job_id: str) -> None:
    assert harness.ledger.overview.forget(job_id, before=harness.clock() + 1) == "forgotten"


def test_nothing_of_an_ended_job_is_left_and_other_tenants_keep_theirs(harness: Harness) -> None:
    failed, gone = job_states.cancelled(harness), done(harness)
    theirs = kit.finished(harness.ledger)
    thumbnail = path(gone).replace("job.json", "0.thumb.webp")
    harness.runtime.storage.put(thumbnail, b"a thumbnail", "image/webp")
    rebuild(harness.runtime)

    assert erase(harness) == Erased(jobs=2, files=3, kept=())

    assert archive_kit.files(harness) == {}
    assert harness.ledger.overview.existing([failed, gone, theirs]) == {theirs}
    assert harness.runtime.history.find(Query(), limit=9).ids == [theirs]
    left = {key: text for key, text in kit.state(harness.redis).items() if "changes" not in key}
    assert failed not in repr(left)
    assert gone not in repr(left)
    assert erase(harness) == Erased(jobs=0, files=0, kept=())


def test_jobs_that_only_the_history_or_the_archive_knows_are_erased(harness: Harness) -> None:
    in_history, in_archive = job_states.cancelled(harness), done(harness)
    rebuild(harness.runtime)
    history = harness.runtime.history
    forget(harness, in_history)
    forget(harness, in_archive)
    with history.writing(Writer()) as batch:
        batch.remove([in_archive])

    assert erase(harness).jobs == 2

    assert history.find(Query(), limit=9).ids == []
    assert archive_kit.files(harness) == {}


def test_open_jobs_and_pending_follow_ups_are_kept_and_named(harness: Harness) -> None:
    queued, running = harness.enqueue(), job_states.running(harness)
    pending, unreadable = Gallery(harness).job(picture()), job_states.cancelled(harness)
    rebuild(harness.runtime)
    harness.redis.hset(keys.job(unreadable), "request", "{")

    erased = erase(harness)

    assert (erased.jobs, sorted(erased.kept)) == (0, sorted([queued, running, pending, unreadable]))
    every = [queued, running, pending, unreadable]
    assert harness.ledger.overview.existing(every) == set(every)
    assert sorted(harness.runtime.history.find(Query(), limit=9).ids) == sorted(every)


def test_a_dry_run_counts_the_same_and_deletes_nothing(harness: Harness) -> None:
    done(harness)
    harness.enqueue()
    rebuild(harness.runtime)
    before, files = kit.state(harness.redis), archive_kit.files(harness)

    counted = erase(harness, dry_run=True)

    assert kit.state(harness.redis) == before
    assert archive_kit.files(harness) == files
    assert erase(harness) == counted
    assert counted.jobs == 1


def test_without_a_history_the_rest_is_erased(
    start: Callable[..., Harness], tmp_path: Path
) -> None:
    harness = archive_kit.harness(start, tmp_path)
    done(harness)

    assert erase(harness) == Erased(jobs=1, files=2, kept=())


@pytest.mark.parametrize("number", [1, 7])
def test_every_page_is_erased(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(erasure, "PAGE_JOBS", 3)
    for _ in range(number):
        job_states.cancelled(harness)
    rebuild(harness.runtime)
    looked_at = list[int]()

    erased = erase_tenant(harness.runtime, TENANT, actor="cli:ops", advanced=looked_at.append)

    assert (erased.jobs, sum(looked_at)) == (number, number)
    assert harness.ledger.overview.size() == 0
    assert harness.runtime.history.find(Query(), limit=9).ids == []


def test_a_job_is_forgotten_after_its_files_so_a_repeated_call_deletes_the_rest(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = done(harness)
    rebuild(harness.runtime)

    def fail(*_: object) -> None:
        raise StorageError("away")

    with monkeypatch.context() as away:
        away.setattr(Storage, "delete", fail)
        with pytest.raises(StorageError):
            erase(harness)
    assert harness.ledger.overview.existing([job_id])
    assert harness.runtime.history.get(job_id)

    assert erase(harness).jobs == 1


def test_a_manifest_that_nobody_can_read_stops_nothing(harness: Harness) -> None:
    odd, gone = done(harness, 1), done(harness, 2)
    forget(harness, odd)
    harness.runtime.storage.put(path(odd), b"{", "application/json")

    assert erase(harness).jobs == 1

    assert not harness.ledger.overview.existing([gone])
    assert path(odd) in archive_kit.files(harness)


def test_the_audit_trail_has_who_erased_how_much(harness: Harness) -> None:
    job_states.cancelled(harness)

    erase(harness)

    end, start = harness.ledger.audit.entries(2)
    assert {(entry.actor, entry.target) for entry in (end, start)} == {("cli:ops", TENANT)}
    assert (start.action, start.detail) == ("tenant_erase", {})
    assert (end.action, end.detail) == ("tenant_erased", {"jobs": "1"})


def test_a_wrong_name_and_an_outage_are_refused(harness: Harness) -> None:
    with pytest.raises(InvalidRequest):
        erase(harness, "no name")
    with pytest.raises(LedgerUnavailable):
        erase(harness.on(unavailable_ledger()))


def test_a_recorder_brings_no_job_back(harness: Harness) -> None:
    """The changes of the jobs are in the streams, and were not recorded yet."""
    recorder = started(harness.ledger, harness.runtime.history)
    job_id = job_states.cancelled(harness)

    erase(harness)
    catch_up(recorder)

    assert harness.runtime.history.get(job_id) is None


def test_an_interrupted_call_is_in_the_audit_trail(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(harness)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Storage, "delete", interrupt)
    with pytest.raises(KeyboardInterrupt):
        erase(harness)

    [entry] = harness.ledger.audit.entries(1)
    assert (entry.action, entry.target) == ("tenant_erase", TENANT)


def test_an_expired_job_leaves_the_index_and_is_not_counted(harness: Harness) -> None:
    gone = job_states.cancelled(harness)
    harness.redis.delete(keys.job(gone), keys.events(gone))

    assert erase(harness, dry_run=True) == erase(harness) == Erased(jobs=0, files=0, kept=())

    assert gone not in repr(harness.redis.zrange(keys.tenant_jobs(0, TENANT), 0, -1))


def test_a_row_of_the_history_that_cannot_be_read_is_deleted(harness: Harness) -> None:
    odd, other = job_states.cancelled(harness), job_states.cancelled(harness)
    rebuild(harness.runtime)
    history = harness.runtime.history
    fields = update(documents).where(documents.c.id == odd).values(fields='{"status":"new"}')
    with history.database.writing() as connection:
        connection.execute(fields)

    assert erase(harness).jobs == 2

    assert history.find(Query(), limit=9).ids == []
    assert harness.ledger.overview.existing([odd, other]) == set()


def test_no_job_is_forgotten_while_the_disk_of_the_archive_is_away(
    harness: Harness, tmp_path: Path
) -> None:
    job_id = done(harness)
    archive = tmp_path / "archive"
    archive.rename(tmp_path / "disk")

    with pytest.raises(StorageError):
        erase(harness)

    assert harness.ledger.overview.existing([job_id])


def test_a_job_with_a_lost_image_is_no_longer_at_risk(harness: Harness) -> None:
    job_id, now = Gallery(harness).job(picture()), harness.clock.now
    kit.finish_follow_up(harness.ledger, job_id, Step.ARCHIVE, FollowUpStatus.DEAD)
    assert harness.ledger.follow_ups.given_up(9, now=now) == (1, [job_id])

    assert erase(harness).jobs == 1

    assert harness.ledger.follow_ups.given_up(9, now=now) == (0, [])


def test_files_of_several_jobs_are_deleted_at_the_same_time(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        done(harness, number)
    pair, delete, get = threading.Barrier(2), Storage.delete, Storage.get

    def deleted(storage: Storage, path: str) -> None:
        pair.wait(60)
        delete(storage, path)

    def read(storage: Storage, path: str) -> bytes:
        pair.wait(60)
        return get(storage, path)

    monkeypatch.setattr(Storage, "get", read)
    assert erase(harness, OTHER).jobs == 0

    monkeypatch.setattr(Storage, "delete", deleted)
    assert erase(harness) == Erased(jobs=2, files=4, kept=())


def test_a_history_that_is_elsewhere_is_not_taken_for_none(
    start: Callable[..., Harness], tmp_path: Path
) -> None:
    """Whoever forgets ORCHESTRATOR_HISTORY_URL would leave all jobs in the history."""
    harness = archive_kit.harness(start, tmp_path)
    job_id = job_states.cancelled(harness)
    now = harness.clock()
    harness.ledger.processes.record(Process("recorder", "other-host", 7, "0.1.0", now, now))

    with pytest.raises(HistoryUnavailable, match="a recorder runs"):
        erase(harness)

    assert harness.ledger.overview.existing([job_id])


def test_jobs_of_versions_without_tenants_belong_to_default(harness: Harness) -> None:
    old, theirs = job_states.cancelled(harness, tenant=OTHER), job_states.cancelled(harness)
    harness.redis.hdel(keys.job(old), "tenant")
    harness.redis.delete(keys.tenant_jobs(0, OTHER))

    assert erase(harness, OTHER).jobs == 1

    assert harness.ledger.overview.existing([old, theirs]) == {theirs}


def test_a_thumbnail_that_is_made_meanwhile_does_not_stay(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = done(harness)
    job = harness.ledger.get(job_id)
    assert job is not None
    copy = job.images[0].copy
    assert copy is not None
    image = Archived(copy.path, copy.thumbnail, copy.content_type, copy.sha256)

    def made(*_: object, **__: object) -> bytes:
        assert erase(harness).jobs == 1
        return b"a thumbnail"

    monkeypatch.setattr(thumbnails, "make_thumbnail", made)
    with pytest.raises(NotStored):
        thumbnails.store_thumbnail(harness.runtime, image, str(copy.thumbnail))

    assert archive_kit.files(harness) == {}


def test_a_file_that_is_stored_after_the_list_is_deleted(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnail = path(done(harness)).replace("job.json", "0.thumb.webp")
    late, delete = [thumbnail], Storage.delete

    def deleted(storage: Storage, gone: str) -> None:
        if late:
            storage.put(late.pop(), b"a thumbnail", "image/webp")
        delete(storage, gone)

    monkeypatch.setattr(Storage, "delete", deleted)
    assert erase(harness) == Erased(jobs=1, files=3, kept=())

    assert archive_kit.files(harness) == {}
