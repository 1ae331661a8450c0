"""The disk of the archive is not mounted: its empty folder is not taken for the archive."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from orchestrator.jobs.model import FollowUpStatus
from orchestrator.ledger import LedgerUnavailable
from orchestrator.runtime import has_archived
from orchestrator.storage.storage import Storage
from tests.support.archive_kit import Gallery, again, archived, errors, path_of, picture, state
from tests.support.fakes import Harness


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def restarted(harness: Harness, folder: Path) -> Harness:
    """Return the harness of a new process, which has not used the folder yet."""
    storage = Storage.from_url(folder.as_uri(), partial(has_archived, harness.runtime.ledger))
    return harness.with_runtime(storage=storage)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("mount_point", [False, True])
def test_images_wait_for_their_disk(
    harness: Harness, gallery: Gallery, folder: Path, *, restarts: bool, mount_point: bool
) -> None:
    archived(harness, gallery.job(picture()))
    folder.rename(folder.with_name("disk"))
    if mount_point:
        folder.mkdir()
    harness = restarted(harness, folder) if restarts else harness

    job_id = archived(harness, gallery.job(picture(1)))

    assert state(harness, job_id).status is FollowUpStatus.PENDING
    [error] = errors(harness, job_id)
    assert error is not None
    assert error.startswith(f"our storage: file://{folder}: ")
    assert "mount its disk" in error
    assert not folder.exists() or list(folder.iterdir()) == []

    if mount_point:
        folder.rmdir()
    folder.with_name("disk").rename(folder)
    again(harness, job_id)

    assert state(harness, job_id).status is FollowUpStatus.DONE
    assert (folder / path_of(job_id, "0.png")).read_bytes() == picture(1)


def test_a_new_archive_is_begun_in_a_folder_with_any_file(
    harness: Harness, gallery: Gallery, folder: Path
) -> None:
    archived(harness, gallery.job(picture()))
    folder.rename(folder.with_name("disk"))
    folder.mkdir()
    (folder / "new").touch()

    job_id = archived(restarted(harness, folder), gallery.job(picture()))

    assert state(harness, job_id).status is FollowUpStatus.DONE


def test_an_empty_folder_is_used_when_nothing_was_archived(
    harness: Harness, gallery: Gallery, folder: Path
) -> None:
    folder.mkdir()

    job_id = archived(restarted(harness, folder), gallery.job(picture()))

    assert state(harness, job_id).status is FollowUpStatus.DONE


def test_whether_images_were_archived_is_not_guessed_while_redis_is_away(
    harness: Harness, gallery: Gallery, folder: Path
) -> None:
    def is_used() -> bool:
        raise LedgerUnavailable("away")

    storage = Storage.from_url(folder.as_uri(), is_used)

    with pytest.raises(LedgerUnavailable):
        storage.put("2026-11-29/job_01/0.png", b"", "image/png")
    assert not folder.exists()
