"""The files of the spool: complete, in the order of receipt, and limited in number and size."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.callbacks import spool as module
from orchestrator.callbacks.spool import BadEntry, Entry, Spool, SpoolError
from orchestrator.ledger import identifiers
from tests.support import fork_server
from tests.support.fakes import NOON

BODY = b'{"id":"task-1",\n"status":"completed"}'
ENTRY = Entry("evolink", identifiers.new_job_id(0, NOON), 1, NOON, BODY)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def kept(spool: Spool) -> list[Entry]:
    return [spool.load(name) for name in spool.waiting()]


def test_a_stored_entry_is_read_unchanged(spool: Spool) -> None:
    for body in (BODY, b"", b"\n\n", b"{}\n", bytes(range(256))):
        spool.keep(replace(ENTRY, body=body))

    assert [entry.body for entry in kept(spool)] == [
        BODY, b"", b"\n\n", b"{}\n", bytes(range(256))
    ]  # fmt: skip
    assert kept(spool)[0] == ENTRY


def test_an_empty_spool_has_no_folder_and_nothing_waits(spool: Spool) -> None:
    assert (spool.waiting(), spool.bad(), spool.folder.exists()) == ([], [], False)


def test_entries_of_all_processes_are_in_the_order_of_receipt(spool: Spool) -> None:
    other = Spool(spool.folder)
    times = [NOON + 5, NOON, NOON + 5, NOON + 100_000_000, NOON - 1]
    for number, received in enumerate(times):
        (spool, other)[number % 2].keep(replace(ENTRY, received=received, attempt=number + 1))

    assert [entry.received for entry in kept(spool)] == sorted(times)


def test_processes_that_write_in_the_same_millisecond_lose_nothing(spool: Spool) -> None:
    for number in range(1, 6):
        Spool(spool.folder).keep(replace(ENTRY, attempt=number))

    assert {entry.attempt for entry in kept(spool)} == set(range(1, 6))


def test_within_a_millisecond_entries_are_in_the_order_of_storing(spool: Spool) -> None:
    for number in range(1, 21):
        spool.keep(replace(ENTRY, attempt=number))

    assert [entry.attempt for entry in kept(spool)] == list(range(1, 21))


def test_files_and_folder_are_private(spool: Spool) -> None:
    spool.keep(ENTRY)

    modes = {path.stat().st_mode & 0o777 for path in [spool.folder, *spool.folder.iterdir()]}
    assert modes == {0o700, 0o600}


# The disk ------------------------------------------------------------------------------------


def test_file_and_folder_are_synced_before_keep_returns(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append(kind)
        sync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    spool.keep(ENTRY)

    # The first folder is the parent, which holds the entry of the spool's own folder.
    assert done == ["folder", "folder", "file", "rename", "folder"]


def fails(number: int) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return call


#: The call that fails, and its error number. In the last case the file exists already.
BREAKS: dict[str, tuple[Any, str, int]] = {
    "no folder can be made": (Path, "mkdir", errno.EACCES),
    "the folder cannot be counted": (os, "scandir", errno.EACCES),
    "no file can be made": (os, "open", errno.EROFS),
    "the disk is full": (os, "fsync", errno.ENOSPC),
    "the rename fails": (Path, "replace", errno.EIO),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_disk_error_raises_and_leaves_no_file(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    owner, name, number = BREAKS[what]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails(number))
        with pytest.raises(SpoolError, match=os.strerror(number)):
            spool.keep(ENTRY)

    assert spool.waiting() == []
    assert not spool.folder.exists() or list(spool.folder.iterdir()) == []
    spool.keep(ENTRY)
    assert kept(spool) == [ENTRY]


def test_a_failed_sync_of_the_folder_raises_although_the_file_exists(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.keep(ENTRY)
    monkeypatch.setattr("orchestrator.storage.files.sync_folder", fails(errno.EIO))

    with pytest.raises(SpoolError):
        spool.keep(replace(ENTRY, attempt=2))

    assert kept(spool) == [ENTRY, replace(ENTRY, attempt=2)], (
        "the provider sends it again, and the ledger recognises the duplicate"
    )


def test_a_file_in_place_of_the_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("no folder")

    with pytest.raises(SpoolError):
        Spool(tmp_path / "spool").keep(ENTRY)


def test_temporary_files_are_ignored_and_deleted_when_old(spool: Spool) -> None:
    spool.keep(ENTRY)
    young, old = (spool.folder / f"{name}.callback.half" for name in ("1", "2"))
    young.write_bytes(b'{"spool"')
    old.write_bytes(b'{"spool"')
    os.utime(old, (0, 0))

    spool.sweep()

    assert (young.exists(), old.exists()) == (True, False)
    assert kept(spool) == [ENTRY]


# Limits --------------------------------------------------------------------------------------


def test_the_number_of_files_is_limited(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 3)
    for _ in range(3):
        spool.keep(ENTRY)

    with pytest.raises(SpoolError, match="full: 3 files"):
        spool.keep(ENTRY)
    assert len(spool.waiting()) == 3


def test_the_number_of_bytes_is_limited(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 2 * len(ENTRY.stored()))
    spool.keep(ENTRY)
    spool.keep(ENTRY)

    with pytest.raises(SpoolError, match="full: 2 files"):
        spool.keep(ENTRY)


def test_files_of_other_processes_and_unreadable_files_count(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 2)
    other = Spool(spool.folder)
    other.keep(ENTRY)
    other.set_aside(other.waiting()[0])
    other.keep(ENTRY)

    with pytest.raises(SpoolError, match="full"):
        spool.keep(ENTRY)


def test_removed_files_free_their_room(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 1)
    monkeypatch.setattr(module, "SIZE_CACHE_SECONDS", 0.0)
    for _ in range(3):
        spool.keep(ENTRY)
        spool.remove(spool.waiting()[0])


# Unreadable files ---------------------------------------------------------------------------

LINE = ENTRY.stored().partition(b"\n")[0]
NO_ENTRIES = {
    "empty": b"",
    "cut off in its line": LINE[:30],
    "cut off in its body": ENTRY.stored()[:-1],
    "longer than it says": ENTRY.stored() + b"x",
    "not JSON": b"hello\n" + BODY,
    "not UTF-8": b"\xff\xfe\n" + BODY,
    "another form": LINE.replace(b'"spool":1', b'"spool":2') + b"\n" + BODY,
    "a list": b"[]\n" + BODY,
    "no provider": LINE.replace(b'"evolink"', b"7") + b"\n" + BODY,
    "no job": LINE.replace(ENTRY.job_id.encode(), b"../../etc/passwd") + b"\n" + BODY,
    "no attempt": LINE.replace(b'"attempt":1', b'"attempt":true') + b"\n" + BODY,
    "attempt zero": LINE.replace(b'"attempt":1', b'"attempt":0') + b"\n" + BODY,
    "no time": LINE.replace(str(NOON).encode(), b'"noon"') + b"\n" + BODY,
    "huge": ENTRY.stored() + b"x" * module.MAX_ENTRY_BYTES,
}


@pytest.mark.parametrize("name", NO_ENTRIES)
def test_a_file_that_is_not_an_entry_is_refused(spool: Spool, name: str) -> None:
    spool.folder.mkdir()
    (spool.folder / "1.callback").write_bytes(NO_ENTRIES[name])

    with pytest.raises(BadEntry):
        spool.load("1.callback")

    spool.set_aside("1.callback")
    assert (spool.waiting(), spool.bad()) == ([], ["1.callback.bad"])


def test_a_folder_is_refused(spool: Spool) -> None:
    (spool.folder / "1.callback").mkdir(parents=True)

    with pytest.raises(BadEntry):
        spool.load("1.callback")


def test_a_removed_entry_is_not_found(spool: Spool) -> None:
    spool.remove("1.callback")
    with pytest.raises(FileNotFoundError):
        spool.load("1.callback")


# The lock ------------------------------------------------------------------------------------


def test_the_lock_has_one_holder(spool: Spool) -> None:
    spool.keep(ENTRY)
    other = Spool(spool.folder)

    with spool.locked() as first, other.locked() as second:
        assert (first, second) == (True, False)
    with other.locked() as again:
        assert again


HOLDER = """
import signal, sys
from pathlib import Path
from orchestrator.callbacks.spool import Spool
with Spool(Path(sys.argv[1])).locked() as ours:
    print(ours, flush=True)
    signal.pause()
"""


@pytest.mark.server
def test_a_killed_process_releases_the_lock(spool: Spool) -> None:
    spool.keep(ENTRY)
    reader, writer = os.pipe()
    holder = fork_server.start(["-c", HOLDER, str(spool.folder)], stdout=writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        assert said.readline() == b"True\n"
    with spool.locked() as ours:
        assert not ours
    holder.kill()
    holder.wait()

    with spool.locked() as ours:
        assert ours
