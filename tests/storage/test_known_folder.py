"""A folder whose disk is away is not taken for the archive, and its return is noticed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.step_loop import StepLoop, current_loop
from orchestrator.storage import known_folder
from orchestrator.storage.storage import NoFolder, NotStored, Storage, StorageError
from tests.support.steps import begin

PATH = "2026-11-29/job_01/0.png"
OTHER = "2026-11-29/job_02/0.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def storage(folder: Path) -> Storage:
    storage = Storage.from_url(folder.as_uri())
    storage.put(PATH, b"bytes", "image/png")
    return storage


def test_nothing_is_stored_below_the_mount_point_of_a_disk_that_is_away(
    storage: Storage, folder: Path
) -> None:
    folder.rename(folder.with_name("disk"))
    folder.mkdir()

    with pytest.raises(StorageError, match=r"another folder than before.*mount its disk"):
        storage.put(OTHER, b"bytes", "image/png")

    assert list(folder.iterdir()) == []


def test_a_folder_that_is_gone_is_not_made_again(storage: Storage, folder: Path) -> None:
    folder.rename(folder.with_name("disk"))

    with pytest.raises(StorageError, match="the folder is gone; mount its disk"):
        storage.put(OTHER, b"bytes", "image/png")

    assert not folder.exists()


def test_a_disk_that_is_back_goes_on_by_itself(storage: Storage, folder: Path) -> None:
    folder.rename(folder.with_name("disk"))
    with pytest.raises(StorageError):
        storage.put(OTHER, b"bytes", "image/png")

    folder.with_name("disk").rename(folder)
    storage.put(OTHER, b"bytes", "image/png")

    assert storage.get(OTHER) == b"bytes"


def test_a_disk_that_is_back_with_another_number_is_known_by_its_files(
    storage: Storage, folder: Path
) -> None:
    copy = folder.with_name("copy")
    (copy / PATH).parent.mkdir(parents=True)
    (copy / PATH).write_bytes(b"bytes")
    folder.rename(folder.with_name("disk"))
    copy.rename(folder)

    storage.put(OTHER, b"bytes", "image/png")

    assert (folder / OTHER).read_bytes() == b"bytes"


def test_a_disk_that_is_back_is_known_without_the_last_file(storage: Storage, folder: Path) -> None:
    (folder.with_name("copy") / "2026-11-29").mkdir(parents=True)
    folder.rename(folder.with_name("disk"))
    folder.with_name("copy").rename(folder)

    storage.put(OTHER, b"bytes", "image/png")

    assert storage.get(OTHER) == b"bytes"


def test_a_disk_that_goes_while_files_are_named_is_noticed(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def linked(source: str, target: str, **options: Any) -> None:
        if not folder.with_name("disk").exists():
            folder.rename(folder.with_name("disk"))
        link(source, target, **options)

    monkeypatch.setattr(os, "link", linked)
    with pytest.raises(StorageError, match="another folder than before"):
        storage.put(OTHER, b"bytes", "image/png")


def test_steps_that_share_syncs_notice_it_too(
    steps: StepLoop, storage: Storage, folder: Path
) -> None:
    folder.rename(folder.with_name("disk"))

    with pytest.raises(StorageError, match="the folder is gone"):
        begin(steps, storage.put, OTHER, b"bytes", "image/png").result()

    assert not folder.exists()


def test_a_step_loop_does_not_wait_while_it_is_asked_whether_the_folder_was_used(
    steps: StepLoop, folder: Path
) -> None:
    loops: list[object] = []

    def is_used() -> bool:
        loops.append(current_loop())
        return False

    storage = Storage.from_url(folder.as_uri(), is_used)
    begin(steps, storage.put, PATH, b"bytes", "image/png").result(60)

    assert loops == [None]


def test_a_folder_that_gets_its_first_file_meanwhile_is_not_taken_for_an_empty_one(
    folder: Path,
) -> None:
    def is_used() -> bool:  # another process has stored and recorded an image by now
        Storage.from_url(folder.as_uri()).put(OTHER, b"bytes", "image/png")
        return True

    storage = Storage.from_url(folder.as_uri(), is_used)
    storage.put(PATH, b"bytes", "image/png")

    assert storage.get(PATH) == b"bytes"


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PermissionError

    storage = Storage.from_url(folder.as_uri(), lambda: True)
    monkeypatch.setattr(os, "scandir", refuse)

    storage.put(PATH, b"bytes", "image/png")

    assert (folder / PATH).read_bytes() == b"bytes"


@pytest.mark.parametrize("known_by", ["put", "stream", "local_path"])
def test_a_file_of_a_disk_that_is_away_is_not_said_to_be_missing(
    storage: Storage, folder: Path, known_by: str
) -> None:
    if known_by != "put":
        storage = Storage.from_url(folder.as_uri())
        assert storage.get(PATH) == b"bytes" if known_by == "stream" else storage.local_path(PATH)
    folder.rename(folder.with_name("disk"))
    folder.mkdir()

    for read in (storage.get, storage.size, storage.modified):
        with pytest.raises(StorageError, match="another folder") as failure:
            read(PATH)
        assert not isinstance(failure.value, NotStored)


def test_a_file_without_a_folder_differs_from_a_missing_file(
    storage: Storage, folder: Path
) -> None:
    fresh = Storage.from_url(folder.with_name("other").as_uri())

    with pytest.raises(NoFolder):
        fresh.get(PATH)
    with pytest.raises(NotStored) as failure:
        storage.get(OTHER)
    assert not isinstance(failure.value, NoFolder)


def _list_a_job(storage: Storage) -> list[str]:
    return list(storage.put_before("2026-11-29/job_01", 2**53))


def _list_manifests(storage: Storage) -> list[str]:
    return list(storage.named("job.json"))


@pytest.mark.parametrize("listing", [_list_a_job, _list_manifests])
@pytest.mark.parametrize("is_mounted_over", [True, False])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_disk_that_is_away_is_not_taken_for_an_empty_list(
    storage: Storage,
    folder: Path,
    listing: Callable[[Storage], list[str]],
    is_mounted_over: bool,
    is_known: bool,
) -> None:
    """Whoever deletes what is listed would think that nothing is left."""
    fresh = Storage.from_url(folder.as_uri(), lambda: True)
    if is_known:
        assert list(fresh.named("0.png")) == [PATH]
    folder.rename(folder.with_name("disk"))
    if is_mounted_over:
        folder.mkdir()

    with pytest.raises(StorageError, match="mount its disk"):
        listing(fresh)


@pytest.mark.parametrize("listing", [_list_a_job, _list_manifests])
def test_an_archive_without_files_has_an_empty_list(
    folder: Path, listing: Callable[[Storage], list[str]]
) -> None:
    fresh = Storage.from_url(folder.with_name("other").as_uri())

    assert listing(fresh) == []


def test_lists_of_an_archive_without_files_rarely_ask_whether_it_was_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer takes several round trips, and a tenant may have many jobs without images."""
    now, asked = 100.0, list[float]()

    def is_used() -> bool:
        asked.append(now)
        return False

    monkeypatch.setattr(known_folder, "monotonic", lambda: now)
    fresh = Storage.from_url(folder.with_name("other").as_uri(), is_used)
    for _ in range(3):
        assert _list_a_job(fresh) == []
    assert asked == [100.0]

    now = 101.5
    assert _list_a_job(fresh) == []
    assert asked == [100.0, 101.5]
