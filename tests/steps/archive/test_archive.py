"""The archive step: an image gets a copy, or a reason why it has none."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.jobs.model import Copy, FollowUpStatus, Outcome, Status, Step
from orchestrator.ledger import keys
from orchestrator.operations import image_copies
from orchestrator.operations.archive_faults import faults
from orchestrator.storage import commits
from orchestrator.storage.storage import Bundle
from sandbox.decompression import pixel_bomb
from tests.ledger.kit import make_due
from tests.support import archive_kit, job_states
from tests.support.archive_kit import (
    LINK_LIFETIME_MS,
    Gallery,
    archived,
    path_of,
    picture,
    state,
)
from tests.support.fakes import NOON, Answer, Harness

# Success -----------------------------------------------------------------------------------


def test_an_image_is_copied_and_the_manifest_is_added(harness: Harness, gallery: Gallery) -> None:
    job_id = archived(harness, gallery.job(picture()))

    kept = archive_kit.files(harness)
    assert set(kept) == {path_of(job_id, n) for n in ("0.png", "job.json")}
    assert kept[path_of(job_id, "0.png")] == picture()


def test_the_ledger_records_the_copy(harness: Harness, gallery: Gallery) -> None:
    job_id = archived(harness, gallery.job(picture()))

    [image] = harness.job(job_id).images
    assert image.copy == Copy(
        path=path_of(job_id, "0.png"),
        sha256=hashlib.sha256(picture()).hexdigest(),
        bytes=len(picture()),
        width=96,
        height=64,
        content_type="image/png",
        archived_at=NOON,
        thumbnail=path_of(job_id, "0.thumb.webp"),
    )
    assert (image.error, image.expires_at) == (None, NOON + LINK_LIFETIME_MS)
    assert image.source_url == f"{harness.provider.url}/image-0"
    done = state(harness, job_id)
    assert (done.status, done.tries, done.error) == (FollowUpStatus.DONE, 1, None)
    assert (done.tried_at, done.due_at) == (NOON, None)
    assert harness.job(job_id).status is Status.SUCCEEDED
    assert harness.events(job_id)[-2:] == ["settled", "archive_done"]
    assert archive_kit.seconds_until_due(harness, job_id) is None


def test_a_copy_has_the_time_of_its_download(harness: Harness, gallery: Gallery) -> None:
    job_id = gallery.job(picture())
    harness.clock.forward(90)

    [image] = harness.job(archived(harness, job_id)).images

    assert image.copy is not None
    assert image.copy.archived_at == NOON + 90_000


def test_every_image_is_copied_with_its_own_format(harness: Harness, gallery: Gallery) -> None:
    forms = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "avif": "AVIF"}
    pages = [picture(number, form) for number, form in enumerate(forms.values())]

    job_id = archived(harness, gallery.job(*pages))

    kept, images = archive_kit.files(harness), harness.job(job_id).images
    for number, (extension, page) in enumerate(zip(forms, pages, strict=True)):
        copy = images[number].copy
        assert copy is not None
        assert copy.path == path_of(job_id, f"{number}.{extension}")
        assert copy.thumbnail == path_of(job_id, f"{number}.thumb.webp")
        assert kept[copy.path] == page
        assert copy.content_type == f"image/{'jpeg' if extension == 'jpg' else extension}"
    assert len(kept) == len(forms) + 1
    assert state(harness, job_id).status is FollowUpStatus.DONE


def test_the_content_type_is_read_from_the_bytes_not_from_the_answer(
    harness: Harness, gallery: Gallery
) -> None:
    response = Answer(200, picture(form="JPEG"), {"Content-Type": "text/html"})

    [image] = harness.job(archived(harness, gallery.job(response))).images

    assert image.copy is not None
    assert (image.copy.content_type, image.copy.path[-4:]) == ("image/jpeg", ".jpg")


def test_a_success_without_images_leaves_its_manifest(harness: Harness) -> None:
    job_id = archived(harness, job_states.ended(harness, Outcome.succeeded(())))

    assert set(archive_kit.files(harness)) == {path_of(job_id, "job.json")}
    assert state(harness, job_id).status is FollowUpStatus.DONE


def test_the_manifest_is_stored_last(harness: Harness, gallery: Gallery, tmp_path: Path) -> None:
    harness, storage = archive_kit.with_recording_storage(harness, tmp_path)

    job_id = archived(harness, gallery.job(picture(0), picture(1)))

    names = ("0.png", "1.png", "job.json")
    assert storage.paths == [path_of(job_id, name) for name in names]


def test_a_link_is_fetched_without_our_keys(harness: Harness, gallery: Gallery) -> None:
    archived(harness, gallery.job(picture()))

    [request] = harness.provider.requests
    assert (request.method, request.path) == ("GET", "/image-0")
    assert not {"authorization", "cookie"} & set(request.headers)


@pytest.mark.parametrize("memory", [len(picture()), len(picture()) - 1])
def test_a_small_image_is_held_in_memory_and_a_larger_one_in_a_file(
    harness: Harness, gallery: Gallery, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(image_copies, "MAX_MEMORY_BYTES", memory)
    names: list[object] = []
    put = Bundle.put

    def recording_put(bundle: Bundle, path: str, content: Any, *args: Any, **options: Any) -> None:
        if not isinstance(content, bytes):
            on_disk = content.name is not None
            names.append(os.fstat(content.fileno()).st_nlink if on_disk else "memory")
        put(bundle, path, content, *args, **options)

    monkeypatch.setattr(Bundle, "put", recording_put)
    job_id = archived(harness, gallery.job(picture()))

    small = memory == len(picture())
    assert names == ["memory" if small else 0], "a file on the disk has no name"
    assert archive_kit.files(harness)[path_of(job_id, "0.png")] == picture()
    assert (harness.runtime.settings.data_dir / "downloads").exists() is not small


def test_an_image_is_recorded_only_when_it_survives_a_crash_of_the_host(
    harness: Harness, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = gallery.job(picture(0), Answer(503))
    with monkeypatch.context() as patch:
        patch.setattr(commits, "sync_folder", failing)
        archived(harness, job_id)
    assert [image.copy for image in harness.job(job_id).images] == [None, None]
    assert (state(harness, job_id).error or "").startswith("our storage: ")

    archive_kit.again(harness, job_id)

    assert [image.copy is not None for image in harness.job(job_id).images] == [True, False]


def failing(_: str) -> None:
    raise OSError(errno.EIO, "Input/output error")


# Files that we do not check ----------------------------------------------------------------

UNCHECKED: dict[str, tuple[bytes, str, str, str]] = {
    "TIFF": (picture(form="TIFF"), "image/tiff", "tif", "not a PNG, "),
    "BMP": (picture(form="BMP"), "image/bmp", "bmp", "not a PNG, "),
    "JPEG 2000": (picture(form="JPEG2000"), "image/jp2", "jp2", "not a PNG, "),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "svg", "not a PNG, "),
    "MP4": (
        b"\0\0\0\x10ftypisom\0\0\2\0\0\0\0\x08moov\0\0\0\x08mdat",
        "video/mp4",
        "mp4",
        "not a PNG, ",
    ),
    "MP3": (b"ID3\4" + bytes(100), "audio/mpeg", "mp3", "not a PNG, "),
    "unknown": (bytes(range(255)), "application/octet-stream", "bin", "unknown kind of file: "),
    "small": (picture(size=(25, 14)), "image/png", "png", "too small: 25 x 14 pixels"),
    "too many pixels": (pixel_bomb(), "image/png", "png", "too large: 50000 x 50000 pixels"),
    "odd image": (
        picture().replace(b"IDAT", b"IDAX"),
        "image/png",
        "png",
        "damaged: the checksum of a chunk IDAX of the PNG is wrong",
    ),
}


@pytest.mark.parametrize("which", UNCHECKED)
def test_a_file_that_we_cannot_check_is_kept_as_it_is(strict: Gallery, which: str) -> None:
    content, content_type, extension, reason = UNCHECKED[which]
    harness = strict.harness
    answer = Answer(200, content, {"Content-Type": "text/html"})

    job_id = archived(harness, strict.job(answer))

    [image] = harness.job(job_id).images
    assert image.copy is not None
    assert (image.copy.path, image.copy.thumbnail) == (path_of(job_id, f"0.{extension}"), None)
    assert (image.copy.content_type, image.copy.checked) == (content_type, False)
    assert image.copy.check_error is not None
    assert image.copy.check_error.startswith(reason)
    assert image.copy.sha256 == hashlib.sha256(content).hexdigest()
    kept = archive_kit.files(harness)
    assert kept[image.copy.path] == content
    assert set(kept) == {image.copy.path, path_of(job_id, "job.json")}
    assert state(harness, job_id).status is FollowUpStatus.DONE
    assert faults(harness.runtime.storage, harness.job(job_id)) == []
    [listed] = archive_kit.manifest(harness, job_id)["images"]
    assert (listed["checked"], listed["check_error"]) == (False, image.copy.check_error)
    assert (listed["path"], listed["thumbnail"]) == (image.copy.path, None)


def test_late_images_are_copied_beside_the_images_of_the_outcome(
    harness: Harness, gallery: Gallery
) -> None:
    job_id = archived(harness, gallery.job(picture(0)))
    [late] = gallery.add_links(picture(1))
    stored = orjson.dumps([{"source_url": late}])
    harness.redis.hset(keys.job(job_id), "late_images", stored)
    make_due(harness.redis, job_id, Step.ARCHIVE, NOON)

    archived(harness, job_id)

    job = harness.job(job_id)
    [copy] = [image.copy for image in job.late_images]
    assert copy is not None
    assert copy.path == path_of(job_id, "1.png")
    assert archive_kit.files(harness)[copy.path] == picture(1)
    assert [image.copy is not None for image in job.images] == [True]
    assert faults(harness.runtime.storage, job) == []
    listed = archive_kit.manifest(harness, job_id)
    assert [listed["images"][0]["path"], listed["late_images"][0]["path"]] == [
        path_of(job_id, "0.png"),
        path_of(job_id, "1.png"),
    ]
