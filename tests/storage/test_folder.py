"""What a folder of this host adds: syncing, halves, and a disk that is full or refuses."""

from __future__ import annotations

import errno
import io
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from orchestrator.storage.commits import TEMPORARY
from orchestrator.storage.files import STALE_SECONDS
from orchestrator.storage.storage import Bundle, Storage, StorageError
from tests.support import fork_server

PATH = "2026-11-21/job_01/0.png"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def storage(folder: Path) -> Storage:
    return Storage.from_url(folder.as_uri())


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_an_object_is_a_plain_file_of_that_path(storage: Storage, folder: Path) -> None:
    storage.put(PATH, b"bytes", "image/png")

    assert (folder / PATH).read_bytes() == b"bytes"
    assert storage.link(PATH, seconds=60) is None


def test_file_and_folders_are_synced_before_put_returns(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = recorded(monkeypatch, folder)

    storage.put(PATH, b"bytes", "image/png")

    day, job = "archive/2026-11-21", "archive/2026-11-21/job_01"
    made = ["sync .", "sync archive"]
    assert happened == [*made, "sync 5 bytes", "link 0.png", f"sync {job}", f"sync {day}"]


def test_the_objects_of_a_bundle_share_the_syncs_of_their_names(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put("2026-11-21/job_00/0.png", b"", "image/png")
    happened = recorded(monkeypatch, folder)

    storage.commit(pair("job_01"))

    names = ["sync archive/2026-11-21/job_01", "sync archive/2026-11-21"]
    assert happened == ["sync 5 bytes", "link 0.png", "sync 2 bytes", "link job.json", *names]


def pair(job: str) -> Bundle:
    bundle = Bundle()
    bundle.put(f"2026-11-21/{job}/0.png", b"bytes", "image/png")
    bundle.put(f"2026-11-21/{job}/job.json", b"{}", "application/json")
    return bundle


def recorded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """Record syncs and new names."""
    happened: list[str] = []
    fsync, link = os.fsync, os.link

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        facts = os.fstat(descriptor)
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        what = name.relative_to(folder.parent) if stat.S_ISDIR(facts.st_mode) else ""
        happened.append(f"sync {what}" if what else f"sync {facts.st_size} bytes")
        assert what or facts.st_nlink == 0

    def linked(source: str, target: str, **options: Any) -> None:
        link(source, target, **options)
        happened.append(f"link {Path(target).name}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    return happened


def test_without_nameless_files_a_file_is_renamed(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS."""
    opened = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    for content in (b"bytes", b"other bytes"):
        storage.put(PATH, io.BytesIO(content), "image/png")
        assert storage.get(PATH) == content
    assert files(folder) == [PATH]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_to_be_full(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    storage.put(PATH, b"before", "image/png")

    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"^file://.*/archive: no space left$"):
        storage.put(PATH, b"after", "image/png")

    assert storage.get(PATH) == b"before"
    assert files(folder) == [PATH]


PUT_LARGE = """
import io, resource, signal, sys
from orchestrator.storage.storage import Bundle, Storage, StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 2**20, 6 * 2**20))
try:
    Storage.from_url(sys.argv[1]).put("a/0.png", io.BytesIO(bytes(20 * 2**20)), "image/png")
except StorageError as error:
    print(error)
"""


def test_a_write_that_the_system_refuses_midway_leaves_nothing(folder: Path) -> None:
    process = fork_server.run(["-c", PUT_LARGE, folder.as_uri()])

    assert process.stdout == f"file://{folder}: File too large\n", process.stderr
    assert files(folder) == []


KILLED_MIDWAY = """
import io, os, signal, sys
from orchestrator.storage.storage import Storage
class Kills(io.BytesIO):
    def read(self, size=-1):
        if self.tell() > 6 * 2**20:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(size)
Storage.from_url(sys.argv[1]).put("a/0.png", Kills(bytes(20 * 2**20)), "image/png")
"""


def test_a_killed_process_leaves_nothing(storage: Storage, folder: Path) -> None:
    storage.put("a/0.png", b"before", "image/png")

    killed = fork_server.run(["-c", KILLED_MIDWAY, folder.as_uri()])

    assert killed.returncode == -signal.SIGKILL

    assert storage.get("a/0.png") == b"before"
    assert files(folder) == ["a/0.png"]


def test_a_temporary_file_is_swept_after_an_hour(storage: Storage, folder: Path) -> None:
    half = folder / TEMPORARY / "half"
    half.parent.mkdir(parents=True)
    half.touch()

    storage.sweep()
    assert half.exists()

    then = half.stat().st_mtime - STALE_SECONDS - 1
    os.utime(half, (then, then))
    storage.sweep()
    assert files(folder) == []


@pytest.mark.parametrize("blocked", ["archive", "archive/2026-11-21", "archive/2026-11-21/job_01"])
def test_a_place_that_cannot_be_written_is_one_line(
    storage: Storage, tmp_path: Path, blocked: str
) -> None:
    place = tmp_path / blocked
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("a file where a folder should be")

    with pytest.raises(StorageError, match=r"^file://\S*/archive: (Not a directory|File exists)$"):
        storage.put(PATH, b"bytes", "image/png")


def test_a_folder_without_permission_is_one_line(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    storage.put(PATH, b"bytes", "image/png")
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(StorageError, match="Permission denied"):
        storage.put(PATH, b"bytes", "image/png")
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(StorageError, match="Permission denied"):
        storage.delete(PATH)
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(StorageError, match="Permission denied"):
        storage.get(PATH)
    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(StorageError, match="Permission denied"):
        storage.sweep()


def test_an_object_that_is_a_folder_is_an_error(storage: Storage) -> None:
    storage.put("a/b/0.png", b"", "image/png")

    with pytest.raises(StorageError, match="Is a directory"):
        storage.get("a/b")
    with pytest.raises(StorageError):
        storage.put("a/b", b"", "image/png")
    with pytest.raises(StorageError):
        storage.delete("a/b")


def test_empty_folders_go_with_their_last_object(storage: Storage, folder: Path) -> None:
    storage.put("day/one/0.png", b"", "image/png")
    storage.put("day/two/0.png", b"", "image/png")

    storage.delete("day/one/0.png")
    assert list((folder / "day").iterdir()) == [folder / "day/two"]

    storage.delete("day/two/0.png")
    assert list(folder.iterdir()) == []


def test_a_folder_that_goes_between_is_made_again(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link
    taken: list[Path] = []

    def linked(source: str, target: str, **options: Any) -> None:
        if not taken:
            taken.append(Path(target).parent)
            taken[0].rmdir()
        link(source, target, **options)

    monkeypatch.setattr(os, "link", linked)
    storage.put(PATH, io.BytesIO(b"bytes"), "image/png")

    assert taken == [folder / "2026-11-21/job_01"]
    assert storage.get(PATH) == b"bytes"


@pytest.mark.parametrize("before", [False, True])
def test_a_folder_that_always_goes_is_an_error(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    if before:
        storage.put(PATH, b"before", "image/png")
    monkeypatch.setattr(*((Path, "replace", gone) if before else (os, "link", gone)))
    with pytest.raises(StorageError, match="No such file"):
        storage.put(PATH, b"bytes", "image/png")

    assert files(folder) == ([PATH] if before else [])


def test_a_percent_in_the_url_is_a_character_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "our images"
    Storage.from_url(folder.as_uri()).put("a/0.png", b"", "image/png")

    assert "%20" in folder.as_uri()
    assert files(folder) == ["a/0.png"]
