"""Images that cannot be archived, or not now."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.jobs.model import FollowUpStatus, Image, Outcome, Status
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.operations import image_copies
from orchestrator.steps.archive import FIRST_WAIT_SECONDS, MIN_TRIES, MIN_TRYING_MS, archive
from orchestrator.storage.storage import StorageError
from tests.support import archive_kit, job_states
from tests.support.archive_kit import (
    DEAD_LINK,
    LINK_LIFETIME_MS,
    Gallery,
    LinkAnswer,
    again,
    archived,
    errors,
    path_of,
    picture,
    state,
)
from tests.support.fakes import NOON, Answer, Harness, ReceivedRequest

# Failures ----------------------------------------------------------------------------------

FAILURES: dict[str, tuple[LinkAnswer, str]] = {
    "404": (DEAD_LINK, "it answered 404"),
    "403": (Answer(403, b"<Error>expired</Error>"), "it answered 403"),
    "500": (Answer(500), "it answered 500"),
    "201": (Answer(201, picture()), "it answered 201"),
    "JSON": (
        Answer(200, b'{"error": "no such task"}', {"Content-Type": "image/png"}),
        'an error page: JSON: {"error": "no such task"}',
    ),
    "HTML": (
        Answer(200, b"<!doctype html><p>Log in", {"Content-Type": "image/png"}),
        "an error page: HTML: <!doctype html><p>Log in",
    ),
    "XML of a store": (
        Answer(200, b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"),
        "an error page: XML: <?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
    ),
    "nothing": (Answer(200, b""), "an empty file"),
    "no answer": (None, "the connection was closed without an answer"),
    "broken off": (
        Answer(200, picture()[:-20], {"Content-Length": str(len(picture()))}),
        "the body broke off: the answer broke off",
    ),
    "half of the file": (
        picture(size=(900, 700))[:-60],
        "truncated: the end of the PNG file is missing",
    ),
    "gzip bomb": (
        Answer(200, gzip.compress(bytes(200_000)), {"Content-Encoding": "gzip"}),
        "the body has more than 100000 bytes",
    ),
    "too many bytes": (bytes(100_001), "the body has more than 100000 bytes"),
    "redirect to a metadata service": (
        Answer(302, b"", {"Location": "http://169.254.169.254/latest/meta-data/"}),
        "a metadata ",
    ),
}


@pytest.mark.parametrize("which", FAILURES)
def test_a_failed_copy_leaves_the_job_succeeded_with_a_reason(strict: Gallery, which: str) -> None:
    page, expected = FAILURES[which]

    job_id = archived(strict.harness, strict.job(page))

    job = strict.harness.job(job_id)
    assert job.status is Status.SUCCEEDED
    assert job.error is None
    [reason] = errors(strict.harness, job_id)
    assert reason is not None
    assert reason.startswith(expected)
    assert "http" not in reason
    follow_up = state(strict.harness, job_id)
    assert (follow_up.status, follow_up.tries, follow_up.error) == (
        FollowUpStatus.PENDING,
        1,
        reason,
    )
    assert (follow_up.tried_at, follow_up.due_at) == (NOON, NOON + int(FIRST_WAIT_SECONDS * 1000))
    assert archive_kit.seconds_until_due(strict.harness, job_id) == FIRST_WAIT_SECONDS
    assert strict.harness.events(job_id)[-1] == "archive_failed"
    assert archive_kit.files(strict.harness) == {}, "no partial file and no manifest exist"


@pytest.mark.parametrize("which", FAILURES)
def test_a_good_answer_ends_each_failure(strict: Gallery, which: str) -> None:
    job_id = archived(strict.harness, strict.job(FAILURES[which][0]))
    strict.pages["/image-0"] = picture()

    again(strict.harness, job_id)

    assert errors(strict.harness, job_id) == [None]
    done = state(strict.harness, job_id)
    assert (done.status, done.tries, done.error) == (FollowUpStatus.DONE, 2, None)
    assert len(archive_kit.files(strict.harness)) == 2


def test_limits_are_inclusive(start: Callable[..., Harness], tmp_path: Path) -> None:
    exact = picture(size=(80, 80))
    limits = {
        "ORCHESTRATOR_MAX_IMAGE_BYTES": str(max(1024, len(exact))),
        "ORCHESTRATOR_MAX_IMAGE_PIXELS": "6400",
    }
    gallery = Gallery(archive_kit.harness(start, tmp_path, **limits))

    job_id = archived(gallery.harness, gallery.job(exact))

    assert state(gallery.harness, job_id).status is FollowUpStatus.DONE


# What no retry can mend --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/", "a metadata address is not allowed"),
        ("https://user:secret@cdn.example/0.png", "a user or password is not allowed in a URL"),
        ("ftp://cdn.example/0.png", "the link is not an http(s) URL"),
        ("", "the link is not an http(s) URL"),
    ],
)
def test_a_link_that_is_wrong_in_itself_is_given_up_at_once(
    harness: Harness, url: str, reason: str
) -> None:
    image = Image(url, NOON + LINK_LIFETIME_MS)

    job_id = archived(harness, job_states.ended(harness, Outcome.succeeded((image,))))

    ended = state(harness, job_id)
    assert (ended.status, ended.tries, ended.error) == (FollowUpStatus.DEAD, 1, reason)
    assert errors(harness, job_id) == [reason]
    assert harness.job(job_id).status is Status.SUCCEEDED
    assert archive_kit.seconds_until_due(harness, job_id) is None
    assert set(archive_kit.files(harness)) == {path_of(job_id, "job.json")}


def test_a_wrong_link_does_not_end_the_tries_of_the_other_images(
    harness: Harness, gallery: Gallery
) -> None:
    [busy] = gallery.add_links(Answer(503))
    images = (Image("ftp://x/0.png"), Image(busy))
    job_id = archived(harness, job_states.ended(harness, Outcome.succeeded(images)))
    assert state(harness, job_id).status is FollowUpStatus.PENDING
    gallery.pages["/image-0"] = picture()

    again(harness, job_id)

    assert errors(harness, job_id) == ["the link is not an http(s) URL", None]
    ended = state(harness, job_id)
    assert (ended.status, ended.error) == (FollowUpStatus.DEAD, "the link is not an http(s) URL")


@pytest.mark.parametrize(
    ("https_only", "reason"),
    [("0", "a loopback address is not allowed"), ("1", "only https:// is allowed")],
)
def test_links_into_the_private_network_are_refused_by_default(
    start: Callable[..., Harness], tmp_path: Path, https_only: str, reason: str
) -> None:
    variables = {
        "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "0",
        "ORCHESTRATOR_IMAGE_HTTPS_ONLY": https_only,
    }
    harness = archive_kit.harness(start, tmp_path, **variables)

    job_id = archived(harness, Gallery(harness).job(picture()))

    assert errors(harness, job_id) == [reason]
    assert harness.provider.requests == []


def test_a_link_that_does_not_end_has_a_timeout(
    start: Callable[..., Harness], tmp_path: Path
) -> None:
    harness = archive_kit.harness(start, tmp_path, ORCHESTRATOR_DOWNLOAD_TIMEOUT_SECONDS="1")
    released = threading.Event()

    def hang(_: ReceivedRequest) -> None:
        released.wait(60)

    try:
        job_id = archived(harness, Gallery(harness).job(hang))
    finally:
        released.set()

    assert errors(harness, job_id) == ["it did not end in time"]


# Outages on our side -----------------------------------------------------------------------


def test_while_the_storage_is_away_images_wait(
    harness: Harness, gallery: Gallery, tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    job_id = archived(harness, gallery.job(picture(0), picture(1)))

    [first, second] = errors(harness, job_id)
    assert first is not None
    assert first.startswith("our storage: file://")
    assert second is None, "it was not tried, because it would fail too"
    assert gallery.fetched() == ["/image-0"]
    assert state(harness, job_id).error == first
    assert archive_kit.seconds_until_due(harness, job_id) == FIRST_WAIT_SECONDS
    (tmp_path / "archive").unlink()

    again(harness, job_id)

    assert errors(harness, job_id) == [None, None]
    assert state(harness, job_id).status is FollowUpStatus.DONE


def test_a_storage_outage_never_gives_up_an_image(
    harness: Harness, gallery: Gallery, tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    job_id = archived(harness, gallery.job(picture(), expires=[60_000]))
    harness.clock.forward(30 * 86_400)

    archived(harness, job_id)

    assert state(harness, job_id).status is FollowUpStatus.PENDING
    assert archive_kit.seconds_until_due(harness, job_id) == 10
    (tmp_path / "archive").unlink()
    again(harness, job_id)
    assert state(harness, job_id).status is FollowUpStatus.DONE, (
        "the link works after its expiry time"
    )


def test_an_expired_image_waits_for_the_storage_with_the_other_images(
    harness: Harness, gallery: Gallery, tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    job_id = gallery.job(DEAD_LINK, picture(), expires=[0, 0])
    harness.clock.forward(MIN_TRYING_MS / 1000)
    for _ in range(MIN_TRIES + 1):
        again(harness, job_id)

    assert state(harness, job_id).status is FollowUpStatus.PENDING


def test_a_missing_download_folder_counts_as_a_storage_failure(
    harness: Harness, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_copies, "MAX_MEMORY_BYTES", 1)
    (tmp_path / "data").write_text("a file in the folder's place")
    job_id = archived(harness, gallery.job(picture(), picture(), expires=[0, 0]))

    [first, second] = errors(harness, job_id)
    assert (first, second) == ("no room for a download: Not a directory", None)
    assert gallery.fetched() == ["/image-0"]
    assert state(harness, job_id).status is FollowUpStatus.PENDING
    (tmp_path / "data").unlink()
    assert state(harness, again(harness, job_id)).status is FollowUpStatus.DONE


def full(_: Path) -> BinaryIO:
    """Return a file on a full disk."""
    return Path("/dev/full").open("w+b")


def test_a_full_disk_counts_as_a_storage_failure(
    harness: Harness, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(image_copies, "temporary_file", full)
        job_id = archived(harness, gallery.job(picture(), picture(), expires=[0, 0]))

    assert errors(harness, job_id) == ["no room for a download: No space left on device", None]
    assert gallery.fetched() == ["/image-0"]
    assert state(harness, job_id).status is FollowUpStatus.PENDING
    assert state(harness, again(harness, job_id)).status is FollowUpStatus.DONE


@pytest.mark.parametrize("failure", [StorageError("away"), OSError("download cannot be read")])
def test_an_image_that_is_not_stored_has_no_copy(
    harness: Harness, gallery: Gallery, tmp_path: Path, failure: Exception
) -> None:
    harness, storage = archive_kit.with_recording_storage(harness, tmp_path)
    storage.refuses = lambda path: path.endswith("0.png")
    storage.failure = failure

    job_id = archived(harness, gallery.job(picture()))

    assert errors(harness, job_id) == [f"our storage: {failure}"]
    assert harness.job(job_id).images[0].copy is None
    storage.refuses = lambda _: False
    assert state(harness, again(harness, job_id)).status is FollowUpStatus.DONE
    assert len(archive_kit.files(harness)) == 2


def test_without_its_manifest_an_archive_is_not_done(
    harness: Harness, gallery: Gallery, tmp_path: Path
) -> None:
    harness, storage = archive_kit.with_recording_storage(harness, tmp_path)
    storage.refuses = lambda path: path.endswith("job.json")
    job_id = archived(harness, gallery.job(picture()))

    waiting = state(harness, job_id)
    assert (waiting.status, waiting.tries) == (FollowUpStatus.PENDING, 1)
    assert waiting.error == "our storage: the storage is away"
    assert harness.job(job_id).images[0].copy is None
    assert errors(harness, job_id) == ["our storage: the storage is away"]
    assert archive_kit.seconds_until_due(harness, job_id) == FIRST_WAIT_SECONDS
    storage.refuses, storage.paths = lambda _: False, []

    again(harness, job_id)

    assert storage.paths == [path_of(job_id, name) for name in ("0.png", "job.json")]
    assert state(harness, job_id).status is FollowUpStatus.DONE


def test_an_image_is_given_up_only_with_its_manifest(
    harness: Harness, gallery: Gallery, tmp_path: Path
) -> None:
    harness, storage = archive_kit.with_recording_storage(harness, tmp_path)
    storage.refuses = lambda path: path.endswith("job.json")
    job_id = gallery.job(DEAD_LINK, expires=[0])
    while "our storage" not in (state(harness, job_id).error or ""):
        again(harness, job_id)

    assert state(harness, job_id).status is FollowUpStatus.PENDING
    assert errors(harness, job_id) == ["it answered 404"]
    storage.refuses = lambda _: False
    assert state(harness, again(harness, job_id)).status is FollowUpStatus.DEAD


def test_while_redis_is_away_nothing_is_fetched(harness: Harness, gallery: Gallery) -> None:
    job_id = gallery.job(picture())

    def away() -> None:
        raise LedgerUnavailable("away")

    with pytest.raises(LedgerUnavailable):
        archive(harness.on(Ledger(away)).runtime, job_id)  # type: ignore[arg-type]

    assert gallery.fetched() == []
