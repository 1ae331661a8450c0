"""What a folder of this host adds: syncing, halves, and a disk that is full or refuses."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.storage.files import STALE_SECONDS
from orchestrator.storage.folder import TEMPORARY
from orchestrator.storage.storage import Storage, StorageError

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
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        name = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(folder.parent)
        half = name.parts[1:2] == (TEMPORARY,) and len(name.parts) == 3
        happened.append(f"sync {'half' if half else name}")
        if half:
            assert os.fstat(descriptor).st_size == 5

    def replaced(self: Path, target: Path) -> Path:
        moved = replace(self, target)
        happened.append(f"rename to {target.name}")
        return moved

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)

    storage.put(PATH, b"bytes", "image/png")

    day, job = "archive/2026-11-21", "archive/2026-11-21/job_01"
    made = ["sync .", "sync archive", "sync half", "sync archive", f"sync {day}"]
    assert happened == [*made, "rename to 0.png", f"sync {job}"]


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
from orchestrator.storage.storage import Storage, StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 2**20, 6 * 2**20))
try:
    Storage.from_url(sys.argv[1]).put("a/0.png", io.BytesIO(bytes(20 * 2**20)), "image/png")
except StorageError as error:
    print(error)
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_write_that_the_system_refuses_midway_leaves_nothing(folder: Path) -> None:
    told = run(PUT_LARGE, folder.as_uri())

    assert told.stdout == f"file://{folder}: File too large\n", told.stderr
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


def test_what_a_killed_process_leaves_is_swept_after_an_hour(
    storage: Storage, folder: Path
) -> None:
    storage.put("a/0.png", b"before", "image/png")
    assert run(KILLED_MIDWAY, folder.as_uri()).returncode == -signal.SIGKILL
    (half,) = (folder / TEMPORARY).iterdir()
    assert storage.get("a/0.png") == b"before"

    storage.sweep()
    assert half.exists()

    then = half.stat().st_mtime - STALE_SECONDS - 1
    os.utime(half, (then, then))
    storage.sweep()
    assert files(folder) == ["a/0.png"]


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
    assert list(folder.iterdir()) == [folder / TEMPORARY]


def test_a_folder_that_goes_between_is_made_again(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace
    taken: list[Path] = []

    def replaced(self: Path, target: Path) -> Path:
        if not taken:
            taken.append(target.parent)
            target.parent.rmdir()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    storage.put(PATH, io.BytesIO(b"bytes"), "image/png")

    assert taken == [folder / "2026-11-21/job_01"]
    assert storage.get(PATH) == b"bytes"


def test_a_folder_that_always_goes_is_an_error(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(self: Path, target: Path) -> Path:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(Path, "replace", replaced)
    with pytest.raises(StorageError, match="No such file"):
        storage.put(PATH, b"bytes", "image/png")

    assert files(folder) == []


def test_a_percent_in_the_url_is_a_character_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "our images"
    Storage.from_url(folder.as_uri()).put("a/0.png", b"", "image/png")

    assert "%20" in folder.as_uri()
    assert files(folder) == ["a/0.png"]
