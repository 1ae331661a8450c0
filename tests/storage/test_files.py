"""Atomic files: errors and other writers leave no mixture and no stray temporary file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.storage import files
from orchestrator.storage.files import make_folder, write_atomically, write_synced


def failing(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "folder/target"
    path.parent.mkdir()
    path.write_bytes(b"old")
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_content_is_replaced(target: Path) -> None:
    write_atomically(target, [b"new ", b"content"], temporary=target.with_name("temporary"))

    assert target.read_bytes() == b"new content"
    assert names(target.parent) == ["target"]


def test_the_temporary_file_of_another_writer_is_unchanged(target: Path) -> None:
    temporary = target.with_name("temporary")
    temporary.write_bytes(b"another writer's")

    with pytest.raises(FileExistsError):
        write_atomically(target, [b"new"], temporary=temporary)

    assert temporary.read_bytes() == b"another writer's"
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_an_error_leaves_the_old_content_and_no_temporary_file(
    target: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    owner = os if broken == "fsync" else Path
    monkeypatch.setattr(owner, broken, failing(errno.EIO))

    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(target, [b"new"], temporary=target.with_name("temporary"))

    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["target"]


def test_errors_of_the_pieces_are_raised_unchanged(target: Path) -> None:
    class NoMorePieces(Exception):
        pass

    def pieces() -> object:
        yield b"new"
        raise NoMorePieces

    with pytest.raises(NoMorePieces):
        write_atomically(target, pieces(), temporary=target.with_name("temporary"))  # type: ignore[arg-type]

    assert names(target.parent) == ["target"]


def test_a_failed_sync_of_the_folder_raises(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "sync_folder", failing(errno.EIO))

    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(target, [b"new"], temporary=target.with_name("temporary"))

    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["target"]


@pytest.mark.parametrize("removals", [1, files.FOLDER_ATTEMPTS])
def test_folders_that_another_process_removes_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    target, temporary = tmp_path / "day/job/target", tmp_path / "parts/temporary"
    make, left = files.make_folder, [removals] * 2

    def removed(folder: Path, *, mode: int = 0o777) -> None:
        make(folder, mode=mode)
        which = folder == temporary.parent
        if folder in (target.parent, temporary.parent) and left[which] > 1:
            left[which] -= 1
            folder.rmdir()

    monkeypatch.setattr(files, "make_folder", removed)
    write_atomically(target, [b"new"], temporary=temporary)

    assert target.read_bytes() == b"new"
    assert left == [1, 1]


def test_a_folder_that_is_always_removed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "make_folder", lambda _folder: None)

    with pytest.raises(FileNotFoundError):
        write_synced(tmp_path / "folder/file", [b""])


def test_each_new_folder_is_synced_into_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)

    make_folder(tmp_path / "day/job", mode=0o700)
    make_folder(tmp_path / "day/job", mode=0o700)

    assert synced == [tmp_path, tmp_path / "day"]
    assert stat.S_IMODE((tmp_path / "day/job").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "day").stat().st_mode) & 0o500 == 0o500


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(NotADirectoryError):
        write_synced(tmp_path / "file/folder/name", [b""])
