"""Bundles of one step loop share the syncs, and none suffers from the fault of another."""

from __future__ import annotations

import ctypes
import errno
import os
from concurrent.futures import Future
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import pytest

from orchestrator.rounds import Rounds
from orchestrator.step_loop import StepLoop
from orchestrator.storage import commits, file_system, source
from orchestrator.storage.file_system import can_be_synced
from orchestrator.storage.storage import Bundle, Storage, StorageError
from tests.support.steps import begin

#: The longest wait for a step. Seconds.
LIMIT = 60
DAY = "2026-11-29"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.from_url(tmp_path.as_uri())


def bundle(job: str, content: BinaryIO | bytes = b"bytes") -> Bundle:
    new = Bundle()
    new.put(f"{DAY}/{job}/0.png", content, "image/png")
    new.put(f"{DAY}/{job}/job.json", b"{}", "application/json")
    return new


def commit_all(steps: StepLoop, storage: Storage, bundles: list[Bundle]) -> list[Any]:
    """Return the error of each commit, or None. They begin together."""

    def begin_all() -> list[Future[None]]:
        return [begin(steps, storage.commit, each) for each in bundles]

    return [future.exception(LIMIT) for future in begin(steps, begin_all).result(LIMIT)]


def recorded(monkeypatch: pytest.MonkeyPatch, *, can: bool) -> list[str]:
    """Record syncs and new names. `can`: whether the file system can be synced as a whole."""
    happened: list[str] = []
    fsync, link = os.fsync, os.link

    def linked(source: str, target: str, **options: Any) -> None:
        link(source, target, **options)
        happened.append("link")

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        happened.append("sync")

    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(commits, "sync_file_system", lambda _: happened.append("sync all"))
    monkeypatch.setattr(commits, "can_be_synced", lambda _: can)
    return happened


def test_bundles_that_wait_together_share_two_syncs(
    steps: StepLoop, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.commit(bundle("job_0"))
    happened = recorded(monkeypatch, can=True)

    assert (
        commit_all(steps, storage, [bundle(f"job_{number}") for number in range(1, 4)])
        == [None] * 3
    )

    assert happened == ["sync all", *["link"] * 6, "sync all"]
    for number in range(4):
        folder = tmp_path / DAY / f"job_{number}"
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            "0.png": b"bytes",
            "job.json": b"{}",
        }


def test_without_such_a_sync_each_file_and_folder_is_synced(
    steps: StepLoop, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.commit(bundle("job_0"))
    happened = recorded(monkeypatch, can=False)

    assert commit_all(steps, storage, [bundle("job_1"), bundle("job_2")]) == [None] * 2

    assert sorted(happened) == ["link"] * 4 + ["sync"] * 8


def test_a_folder_on_another_file_system_is_synced_alone(
    steps: StepLoop, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    with TemporaryDirectory(dir=memory) as other:
        (tmp_path / DAY).symlink_to(other)
        happened = recorded(monkeypatch, can=True)

        assert commit_all(steps, storage, [bundle("job_1"), bundle("job_2")]) == [None] * 2

        assert "sync all" not in happened
        assert happened.count("link") == 4


def test_a_link_to_nothing_in_place_of_the_folder_is_a_failure_of_the_storage(
    steps: StepLoop, tmp_path: Path
) -> None:
    (tmp_path / "archive").symlink_to(tmp_path / "unmounted")
    storage = Storage.from_url((tmp_path / "archive").as_uri())

    [failure] = commit_all(steps, storage, [bundle("job_1")])

    assert isinstance(failure, StorageError)


def test_a_bundle_is_synced_alone_when_there_are_too_many_threads(
    steps: StepLoop, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(commits, "can_be_synced", lambda _: True)
    monkeypatch.setattr(Rounds, "do", refuse)

    assert commit_all(steps, storage, [bundle("job_1")]) == [None]
    assert (tmp_path / DAY / "job_1" / "job.json").read_bytes() == b"{}"


def test_after_a_failed_sync_of_all_each_bundle_is_synced_alone(
    steps: StepLoop, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def sync_all(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 1:  # the names cannot be synced
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(commits, "can_be_synced", lambda _: True)
    monkeypatch.setattr(commits, "sync_file_system", sync_all)

    assert commit_all(steps, storage, [bundle("job_1"), bundle("job_2")]) == [None] * 2
    assert (tmp_path / DAY / "job_2" / "job.json").read_bytes() == b"{}"


class Broken(BytesIO):
    """A file that cannot be read."""

    def read(self, _: int | None = -1) -> bytes:
        raise EOFError("broken")


def test_the_fault_of_one_bundle_is_its_own(
    steps: StepLoop, storage: Storage, tmp_path: Path
) -> None:
    (tmp_path / DAY).mkdir()
    (tmp_path / DAY / "job_3").write_text("a file in the folder's place")

    first, broken, last, blocked = commit_all(
        steps,
        storage,
        [bundle("job_0"), bundle("job_1", Broken()), bundle("job_2"), bundle("job_3")],
    )

    assert first is last is None
    assert isinstance(broken, EOFError)
    assert isinstance(blocked, StorageError)
    assert sorted(path.name for path in (tmp_path / DAY / "job_1").iterdir()) == []


def test_the_file_that_was_opened_first_reports_the_errors_of_the_disk_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(commits, "sync_file_system", synced.append)

    assert commits._synced([(20, 7), (10, 8), (30, 6)]) == [None] * 3

    assert synced == [8]


def test_a_wait_for_the_syncs_of_others_is_no_part_of_the_time_limit(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(source, "monotonic", lambda: clock[0])
    waits = bundle("job_1")

    clock[0] = source.PUT_TIMEOUT_SECONDS + 1
    storage.commit(waits)

    assert storage.get(f"{DAY}/job_1/0.png") == b"bytes"


def test_a_whole_file_system_is_synced_where_that_is_safe(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    assert not can_be_synced(Path("/proc").stat().st_dev)
    if not can_be_synced(device):
        pytest.skip("the file system of the tests is not one of file_system.TYPES")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    file_system.sync_file_system(descriptor)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file_system.sync_file_system(descriptor)
    assert ctypes.get_errno() == errno.EBADF
