"""Images that came inside an answer: stored before the outcome, and never in the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from orchestrator.jobs.model import FollowUpStatus, Image, Outcome
from orchestrator.jobs.views import job_view
from orchestrator.ledger import codec, keys
from orchestrator.metrics import Timings
from orchestrator.metrics.labels import STORAGE_FAILED
from orchestrator.operations.archive_faults import faults
from orchestrator.operations.inline_images import store_inline_images
from orchestrator.storage.storage import StorageError
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, archived, path_of, picture
from tests.support.fakes import NOON, Harness


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    return archive_kit.harness(start, tmp_path)


def inline(*contents: bytes) -> Outcome:
    return Outcome.succeeded(tuple(Image("", content=content) for content in contents))


def name_of(content: bytes) -> str:
    return f"inline-{hashlib.sha256(content).hexdigest()[:16]}"


def test_an_inline_image_is_stored_as_the_archive_step_stores_it(harness: Harness) -> None:
    job_id = job_states.running(harness)

    outcome = store_inline_images(harness.runtime, job_id, inline(picture()))

    [image] = outcome.images
    assert (image.content, image.source_url) == (None, "")
    assert image.copy is not None
    stem = name_of(picture())
    assert image.copy.path == path_of(job_id, f"{stem}.png")
    assert image.copy.thumbnail == path_of(job_id, f"{stem}.thumb.webp")
    assert (image.copy.width, image.copy.height, image.copy.checked) == (96, 64, True)
    assert image.copy.sha256 == hashlib.sha256(picture()).hexdigest()
    kept = archive_kit.files(harness)
    assert set(kept) == {image.copy.path}
    assert kept[image.copy.path] == picture()


def test_the_archive_step_adds_only_the_manifest(harness: Harness) -> None:
    gallery = Gallery(harness)
    [link] = gallery.add_links(picture(1))
    outcome = inline(picture(0))
    outcome = replace(outcome, images=(*outcome.images, Image(link)))
    job_id = job_states.running(harness)
    outcome = store_inline_images(harness.runtime, job_id, outcome)
    assert outcome.images[1] == Image(link), "a link is left to the archive step"
    task_id = job_states.task_of(job_id)
    harness.ledger.settle_attempt(job_id, 1, task_id, outcome, now=harness.clock.now)

    archived(harness, job_id)

    job = harness.job(job_id)
    assert archive_kit.state(harness, job_id).status is FollowUpStatus.DONE
    assert gallery.fetched() == ["/image-0"]
    assert faults(harness.runtime.storage, job) == []
    shown = job_view(job, None)["images"]
    assert [image["source_url"] for image in shown] == [None, link]
    assert [image["url"][-2:] for image in shown] == ["/0", "/1"]


@pytest.mark.parametrize(
    ("content", "extension", "reason"),
    [
        (picture(form="TIFF"), "tif", "not a PNG, JPEG, WebP, GIF or AVIF image: TIFF"),
        (b'{"error": 1}', "bin", 'an error page: JSON: {"error": 1}'),
        (picture()[:-60], "png", "truncated: the end of the PNG file is missing"),
    ],
)
def test_every_inline_file_is_kept(
    harness: Harness, content: bytes, extension: str, reason: str
) -> None:
    job_id = job_states.running(harness)

    [image] = store_inline_images(harness.runtime, job_id, inline(content)).images

    assert image.copy is not None
    assert image.copy.path == path_of(job_id, f"{name_of(content)}.{extension}")
    assert (image.copy.check_error, image.copy.thumbnail) == (reason, None)
    assert archive_kit.files(harness) == {image.copy.path: content}


def test_an_empty_inline_image_is_given_up(harness: Harness) -> None:
    [image] = store_inline_images(harness.runtime, job_states.running(harness), inline(b"")).images

    assert image == Image("", error="an empty file", given_up=True)


def test_a_storage_that_is_away_raises(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")

    with pytest.raises(StorageError):
        store_inline_images(harness.runtime, job_states.running(harness), inline(picture()))


def test_a_storage_that_is_away_is_counted_as_that_of_an_archive(
    harness: Harness, tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    sent: list[Mapping[str, float]] = []
    runtime = replace(harness.runtime, timings=Timings(sent.append))

    with pytest.raises(StorageError):
        store_inline_images(runtime, job_states.running(harness), inline(picture()))

    runtime.timings.flush()
    assert any(STORAGE_FAILED in name for name in sent[0]), sent


def test_the_same_answer_twice_is_stored_once(harness: Harness) -> None:
    job_id = job_states.running(harness)
    first = store_inline_images(harness.runtime, job_id, inline(picture()))

    assert store_inline_images(harness.runtime, job_id, inline(picture())) == first
    assert len(archive_kit.files(harness)) == 1


def test_no_bytes_of_an_image_reach_the_ledger(harness: Harness) -> None:
    job_id = job_states.running(harness)
    with pytest.raises(TypeError) as raised:
        codec.images_text(job_id, inline(b"secret bytes").images)

    assert "secret" not in str(raised.value)


def test_an_image_of_an_older_or_newer_version_can_be_read(harness: Harness) -> None:
    copy = {"path": "p", "sha256": "s", "bytes": 1, "width": 2, "height": 3}
    copy |= {"content_type": "image/png", "archived_at": NOON, "thumbnail": "t"}
    job_id = job_states.ended(harness, Outcome.succeeded((Image("https://x/"),)))
    for more in ({}, {"new": 1}):
        stored = [{"source_url": "https://x/", "copy": {**copy, **more}, **more}]
        harness.redis.hset(keys.job(job_id), "images", orjson.dumps(stored))
        [image] = harness.job(job_id).images
        assert image.copy is not None
        assert (image.copy.path, image.copy.checked, image.given_up) == ("p", True, False)
