"""The lease of the archive step, and workers that are slow, late or killed."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import LedgerUnavailable
from orchestrator.steps import archive as archive_step
from orchestrator.steps.archive import LEASE_MARGIN_MS, MIN_TRIES
from tests.support import archive_kit, job_states
from tests.support.archive_kit import (
    DEAD_LINK,
    Gallery,
    LinkAnswer,
    again,
    archived,
    errors,
    path_of,
    picture,
    slow,
    state,
)
from tests.support.fakes import Answer, Harness, Killed, ReceivedRequest, killed

# The lease ---------------------------------------------------------------------------------


def test_the_lease_has_time_for_two_images(harness: Harness) -> None:
    assert archive_step.lease_ms(harness.runtime) == 2 * 5000 + LEASE_MARGIN_MS


def test_images_beyond_the_lease_follow_at_once(harness: Harness, gallery: Gallery) -> None:
    pages = [slow(harness, 30, picture(number)) for number in range(3)]
    job_id = archived(harness, gallery.job(*pages))

    assert gallery.fetched() == ["/image-0", "/image-1"]
    assert [bool(image.copy) for image in harness.job(job_id).images] == [True, True, False]
    waiting = state(harness, job_id)
    assert (waiting.status, waiting.tries, waiting.error) == (FollowUpStatus.PENDING, 0, None)
    assert archive_kit.seconds_until_due(harness, job_id) == 0, "at once"
    assert "archive_failed" not in harness.events(job_id)

    archived(harness, job_id)

    assert gallery.fetched() == ["/image-2"]
    assert (state(harness, job_id).status, state(harness, job_id).tries) == (FollowUpStatus.DONE, 1)


def test_an_image_is_started_only_when_the_lease_has_time_for_it(
    harness: Harness, gallery: Gallery
) -> None:
    spare = (archive_step.lease_ms(harness.runtime) - 5000 - LEASE_MARGIN_MS // 2) / 1000
    enough = gallery.job(slow(harness, spare, picture(0)), picture(1))
    archived(harness, enough)
    gallery.fetched()
    short = gallery.job(slow(harness, spare + 0.001, picture(0)), picture(1))
    archived(harness, short)

    assert state(harness, enough).status is FollowUpStatus.DONE
    assert state(harness, short).status is FollowUpStatus.PENDING


def test_slow_links_do_not_starve_a_good_link(harness: Harness, gallery: Gallery) -> None:
    pages = [*(slow(harness, 30, DEAD_LINK) for _ in range(3)), picture(3)]
    job_id = archived(harness, gallery.job(*pages))
    assert gallery.fetched() == ["/image-0", "/image-1"]

    again(harness, job_id)

    assert gallery.fetched()[:2] == ["/image-2", "/image-3"], "images without a try come first"
    assert harness.job(job_id).images[3].copy is not None
    gallery.pages["/image-2"] = picture(2)
    for _ in range(3):
        again(harness, job_id)
    assert "/image-2" in gallery.fetched()


def test_each_slow_link_gets_its_tries_after_its_expiry(harness: Harness, gallery: Gallery) -> None:
    pages = [slow(harness, 30, DEAD_LINK) for _ in range(5)]
    job_id = archived(harness, gallery.job(*pages, expires=[0] * 5))
    fetched = gallery.fetched()
    while state(harness, job_id).status is FollowUpStatus.PENDING:
        again(harness, job_id)
        fetched += gallery.fetched()

    assert state(harness, job_id).status is FollowUpStatus.DEAD
    assert errors(harness, job_id) == ["it answered 404"] * 5
    assert [fetched.count(f"/image-{n}") for n in range(5)] == [MIN_TRIES] * 5


def test_two_workers_make_one_copy(harness: Harness, gallery: Gallery) -> None:
    def overtaken(_: ReceivedRequest) -> Answer:
        archived(harness, job_id)
        return Answer(200, picture())

    job_id = gallery.job(overtaken)
    archived(harness, job_id)

    assert gallery.fetched() == ["/image-0"]
    assert harness.events(job_id).count("archive_done") == 1


def test_many_workers_make_one_copy(harness: Harness, gallery: Gallery) -> None:
    job_id = gallery.job(picture())
    together = threading.Barrier(8)

    def work() -> None:
        together.wait(60)
        archived(harness, job_id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert gallery.fetched() == ["/image-0"]
    assert harness.events(job_id).count("archive_done") == 1


@pytest.mark.parametrize("late_answer", [picture(1), DEAD_LINK], ids=["image", "no image"])
def test_a_result_after_the_end_of_the_lease_changes_nothing(
    harness: Harness, gallery: Gallery, late_answer: LinkAnswer
) -> None:
    def stalled(_: ReceivedRequest) -> Answer:
        harness.clock.forward(archive_step.lease_ms(harness.runtime) / 1000)
        gallery.pages["/image-0"] = picture(0)
        archived(harness, job_id)
        return Answer(200, late_answer) if isinstance(late_answer, bytes) else DEAD_LINK

    job_id = gallery.job(stalled)
    archived(harness, job_id)

    [image] = harness.job(job_id).images
    assert image.copy is not None
    assert image.copy.sha256 == hashlib.sha256(picture(0)).hexdigest()
    assert state(harness, job_id).status is FollowUpStatus.DONE
    assert harness.events(job_id).count("archive_done") == 1
    assert len(archive_kit.files(harness)) == 2


# A worker that is killed -------------------------------------------------------------------


def test_a_worker_killed_before_the_record_is_repeated_without_harm(
    harness: Harness, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = gallery.job(picture(0), picture(1))
    with monkeypatch.context() as patch:
        patch.setattr(harness.ledger.follow_ups, "done", killed)
        with pytest.raises(Killed):
            archived(harness, job_id)
    before = archive_kit.files(harness)
    assert len(before) == 3
    assert (
        archive_kit.seconds_until_due(harness, job_id)
        == archive_step.lease_ms(harness.runtime) / 1000
    )

    again(harness, job_id)

    after = archive_kit.files(harness)
    manifest = path_of(job_id, "job.json")
    assert {**after, manifest: b""} == {**before, manifest: b""}
    assert state(harness, job_id).status is FollowUpStatus.DONE


@pytest.mark.parametrize("name", ["0.png", "1.png", "job.json"])
def test_a_worker_killed_while_storing_leaves_no_partial_file(
    harness: Harness, gallery: Gallery, tmp_path: Path, name: str
) -> None:
    def kill(path: str) -> bool:
        if path.endswith(name):
            raise Killed
        return False

    harness, storage = archive_kit.with_recording_storage(harness, tmp_path)
    job_id = gallery.job(picture(0), picture(1))
    storage.refuses = kill
    with pytest.raises(Killed):
        archived(harness, job_id)
    assert path_of(job_id, name) not in archive_kit.files(harness)
    assert path_of(job_id, "job.json") not in archive_kit.files(harness)
    storage.refuses = lambda _: False

    again(harness, job_id)

    names = ("0.png", "1.png", "job.json")
    assert set(archive_kit.files(harness)) == {path_of(job_id, each) for each in names}
    assert state(harness, job_id).status is FollowUpStatus.DONE


def test_a_result_that_cannot_be_recorded_is_repeated_after_the_lease(
    harness: Harness, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("away")

    job_id = gallery.job(DEAD_LINK)
    with monkeypatch.context() as patch:
        patch.setattr(harness.ledger.follow_ups, "later", away)
        with pytest.raises(LedgerUnavailable):
            archived(harness, job_id)
    gallery.pages["/image-0"] = picture()

    assert state(harness, again(harness, job_id)).status is FollowUpStatus.DONE


def test_only_a_success_nudges_the_archive_step(harness: Harness) -> None:
    done = job_states.ended(harness)
    job_states.ended(harness, job_states.failure())
    job_states.cancelled(harness)

    assert [sent for sent in harness.nudges.sent if sent[0] is Step.ARCHIVE] == [
        (Step.ARCHIVE, done)
    ]
