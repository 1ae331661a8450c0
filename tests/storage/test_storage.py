"""What every storage keeps to: the same tests on a folder, and on S3 over HTTP."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.storage import source as source_module
from orchestrator.storage.storage import MAX_LINK_SECONDS, NotStored, Storage, StorageError

MIB = 1024 * 1024
PATH = "2026-11-21/job_01/0.png"


class Broken(io.BytesIO):
    """A file whose disk fails after 6 MiB."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.error: Exception = OSError(5, "Input/output error")

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 6 * MIB:
            raise self.error
        return super().read(size)


def large(seed: int = 1, size: int = 7 * MIB) -> bytes:
    block = hashlib.sha256(bytes([seed])).digest() * 1021  # no period fits a piece
    return (block * (size // len(block) + 1))[:size]


def test_what_was_put_is_what_is_got(storage: Storage, objects: Callable[[], list[str]]) -> None:
    storage.put(PATH, b"bytes", "image/png")
    storage.put("2026-11-21/job_01/0.thumb.webp", io.BytesIO(b"file"), "image/webp")

    assert storage.get(PATH) == b"bytes"
    assert storage.get("2026-11-21/job_01/0.thumb.webp") == b"file"
    assert b"".join(storage.stream(PATH)) == b"bytes"
    assert objects() == ["2026-11-21/job_01/0.png", "2026-11-21/job_01/0.thumb.webp"]


@pytest.mark.parametrize("size", [0, 11 * MIB], ids=["empty", "11 MiB"])
def test_any_size_is_kept(storage: Storage, size: int) -> None:
    content = large(size=size)
    storage.put(PATH, io.BytesIO(content), "image/png")
    assert storage.get(PATH) == content

    storage.put(PATH, content, "image/png")
    digest, longest = hashlib.sha256(), 0
    for piece in storage.stream(PATH):
        digest.update(piece)
        longest = max(longest, len(piece))

    assert digest.digest() == hashlib.sha256(content).digest()
    assert longest <= 10 * MIB


def test_a_file_is_put_from_its_start(storage: Storage) -> None:
    file = io.BytesIO(b"whole")
    file.read(3)

    storage.put(PATH, file, "image/png")

    assert storage.get(PATH) == b"whole"


def test_a_second_put_replaces_the_first(
    storage: Storage, objects: Callable[[], list[str]]
) -> None:
    storage.put(PATH, large(1), "image/png")
    storage.put(PATH, b"second", "image/png")

    assert storage.get(PATH) == b"second"
    assert objects() == [PATH]


def test_readers_see_one_whole_object_or_the_other(storage: Storage) -> None:
    first, second = large(1), large(2)
    storage.put(PATH, first, "image/png")
    done, seen = threading.Event(), set()

    def read() -> None:
        while not done.is_set():
            seen.add(hashlib.sha256(storage.get(PATH)).hexdigest())

    reader = threading.Thread(target=read)
    reader.start()
    for content in (second, first) * 3:
        storage.put(PATH, io.BytesIO(content), "image/png")
    done.set()
    reader.join()

    assert seen <= {hashlib.sha256(content).hexdigest() for content in (first, second)}


@pytest.mark.parametrize(
    "error",
    [OSError(5, "Input/output error"), FileNotFoundError("gone"), RuntimeError("other")],
    ids=["OSError", "FileNotFoundError", "RuntimeError"],
)
def test_a_file_that_fails_midway_leaves_nothing(
    storage: Storage, objects: Callable[[], list[str]], error: Exception
) -> None:
    file = Broken(large())
    file.error = error

    with pytest.raises(type(error)) as raised:
        storage.put(PATH, file, "image/png")

    assert raised.value is error
    assert objects() == []


def test_a_put_that_fails_midway_leaves_what_was_there(
    storage: Storage, objects: Callable[[], list[str]]
) -> None:
    storage.put(PATH, b"before", "image/png")

    with pytest.raises(OSError, match="Input/output"):
        storage.put(PATH, Broken(large()), "image/png")

    assert storage.get(PATH) == b"before"
    assert objects() == [PATH]


def test_a_put_that_takes_too_long_is_given_up(
    storage: Storage, objects: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "PUT_TIMEOUT_SECONDS", -1.0)

    with pytest.raises(StorageError, match="too slow"):
        storage.put(PATH, large(), "image/png")

    assert objects() == []


def test_what_is_not_there_is_not_stored(storage: Storage) -> None:
    with pytest.raises(NotStored, match=f"{PATH} does not exist"):
        storage.get(PATH)
    with pytest.raises(NotStored):
        next(storage.stream(PATH))

    storage.put(PATH, b"a", "image/png")

    with pytest.raises(NotStored):
        storage.get(f"{PATH}/below")
    with pytest.raises(NotStored):
        storage.get("2026-11-21/job_01/1.png")


def test_delete_takes_one_object_and_may_be_repeated(
    storage: Storage, objects: Callable[[], list[str]]
) -> None:
    storage.put(PATH, b"a", "image/png")
    storage.put("2026-11-21/job_01/1.png", b"b", "image/png")

    for _ in range(2):
        storage.delete(PATH)
        assert objects() == ["2026-11-21/job_01/1.png"]

    storage.delete("2026-11-21/job_01/1.png")
    storage.delete("never/there")
    assert objects() == []


def test_check_leaves_nothing(storage: Storage, objects: Callable[[], list[str]]) -> None:
    storage.check()

    assert objects() == []


def test_check_tells_of_a_storage_that_gives_back_something_else(
    storage: Storage, objects: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "get", lambda path: b"else")

    with pytest.raises(StorageError, match="other bytes"):
        storage.check()

    assert objects() == []


CLIMBING = (
    "",
    "/",
    "/etc/passwd",
    "a/../b",
    "..",
    ".",
    "a//b",
    "a/",
    ".half/x",
    "a/.b",
    "%2e%2e/a",
)
STRANGE = ("a\\b", "a b", "a\0b", "ä", "a\n", "a/b\n", "x" * 201, "a?b", "a#b")


@pytest.mark.parametrize("path", [*CLIMBING, *STRANGE])
def test_paths_that_are_not_ours_are_refused(storage: Storage, path: str) -> None:
    for call in (
        lambda: storage.put(path, b"", "image/png"),
        lambda: storage.get(path),
        lambda: storage.stream(path),
        lambda: storage.delete(path),
        lambda: storage.link(path, seconds=60),
    ):
        with pytest.raises(ValueError, match="path: "):
            call()


@pytest.mark.parametrize("seconds", [0, -1, MAX_LINK_SECONDS + 1])
def test_a_link_lives_for_a_week_at_most(storage: Storage, seconds: int) -> None:
    with pytest.raises(ValueError, match="seconds must be"):
        storage.link(PATH, seconds=seconds)


def test_many_threads_may_put_at_once(storage: Storage, objects: Callable[[], list[str]]) -> None:
    def put(number: int) -> None:
        storage.put(f"day/{number}/0.png", bytes([number]) * 1000, "image/png")

    threads = [threading.Thread(target=put, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert objects() == sorted(f"day/{number}/0.png" for number in range(16))
    assert storage.get("day/7/0.png") == b"\7" * 1000


def test_the_description_is_scheme_and_place(storage: Storage, tmp_path: Path) -> None:
    known = {f"file://{tmp_path}/archive", "s3://archive/pre/fix"}

    assert {str(storage), repr(storage), storage.description} < known


FILES = (
    "",
    "/tmp/x",
    "archive",
    "file:x",
    "file://host/x",
    "file:///",
    "file:///a?b",
    "file:///a#b",
)
WEB = ("ftp://a/b", "http://a/b", "https://bucket.s3.amazonaws.com/", "memory:///", "abfss://c@a/p")
S3 = ("s3:///p", "s3://", "s3://b/p?", "s3://key:hunter2@b/p", "s3://b:80/p", "s3://[/p")


def test_other_urls_are_refused_without_being_repeated() -> None:
    for url in [*FILES, *WEB, *S3]:
        with pytest.raises(ValueError, match=r"^file:///folder, s3://bucket") as raised:
            Storage.from_url(url)

        assert "hunter2" not in str(raised.value)
        assert raised.value.__cause__ is None


@pytest.mark.parametrize("url", ["s3://b/../x", "s3://b/a//b", "s3://b/a b", "s3://b/%2e%2e/a"])
def test_a_prefix_is_a_path_too(url: str, credentials: None) -> None:
    with pytest.raises(ValueError, match="path: "):
        Storage.from_url(url)


@pytest.mark.parametrize("kind", [StorageError, NotStored])
def test_errors_survive_pickling(kind: type[StorageError]) -> None:
    again = pickle.loads(pickle.dumps(kind("one line")))

    assert type(again) is kind
    assert str(again) == "one line"


def test_nothing_is_made_before_the_first_put(tmp_path: Path) -> None:
    storage = Storage.from_url((tmp_path / "not yet").as_uri())
    storage.sweep()
    storage.delete("a/b")
    assert list(tmp_path.iterdir()) == []

    storage.put("a/b", b"", "image/png")

    assert list(tmp_path.iterdir()) == [tmp_path / "not yet"]


def test_the_objects_of_a_name_are_found(storage: Storage) -> None:
    for path in ("a/job.json", "b/c/job.json", "b/c/0.png", "job.json.old"):
        storage.put(path, b"{}", "application/json")

    assert sorted(storage.named("job.json")) == ["a/job.json", "b/c/job.json"]
    assert list(storage.named("nothing.json")) == []


def test_a_list_goes_on_behind_an_object_that_is_deleted_meanwhile(storage: Storage) -> None:
    paths = [f"{folder}/job.json" for folder in "abc"]
    for path in paths:
        storage.put(path, b"{}", "application/json")

    listed = storage.named("job.json")
    first = next(listed)
    storage.delete("b/job.json")

    assert {"a/job.json", "c/job.json"} <= {first, *listed} <= set(paths)
