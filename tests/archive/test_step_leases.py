"""One worker at a time: the lease on an archive step, and workers that are slow, late or killed."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from orchestrator.archive import step
from orchestrator.archive.step import LATE, LONGEST, MARGIN
from orchestrator.jobs import FollowUpStatus, Step
from orchestrator.ledger import LedgerUnavailable
from tests import lives
from tests.archive import kit
from tests.archive.kit import (
    DEAD_LINK,
    Gallery,
    Page,
    again,
    archived,
    errors,
    picture,
    place,
    slow,
    state,
)
from tests.fakes import NOON, Answer, Asked, World

# The lease ---------------------------------------------------------------------------------


def test_the_lease_has_time_for_two_images(world: World) -> None:
    assert step.lease_ms(world.runtime) == 2 * 5000 + MARGIN


def test_images_that_are_left_when_the_time_is_up_come_right_after(
    world: World, gallery: Gallery
) -> None:
    pages = [slow(world, 30, picture(number)) for number in range(3)]
    job_id = archived(world, gallery.job(*pages))

    assert gallery.fetched() == ["/image-0", "/image-1"]
    assert [bool(image.copy) for image in world.job(job_id).images] == [True, True, False]
    waiting = state(world, job_id)
    assert (waiting.status, waiting.tries, waiting.error) == (FollowUpStatus.PENDING, 0, None)
    assert kit.next_look(world, job_id) == 0, "at once"
    assert "archive_failed" not in world.events(job_id)

    archived(world, job_id)

    assert gallery.fetched() == ["/image-2"]
    assert (state(world, job_id).status, state(world, job_id).tries) == (FollowUpStatus.DONE, 1)


def test_the_time_for_one_more_image_is_just_enough(world: World, gallery: Gallery) -> None:
    spare = (step.lease_ms(world.runtime) - 5000 - MARGIN // 2) / 1000
    enough = gallery.job(slow(world, spare, picture(0)), picture(1))
    archived(world, enough)
    gallery.fetched()
    short = gallery.job(slow(world, spare + 0.001, picture(0)), picture(1))
    archived(world, short)

    assert state(world, enough).status is FollowUpStatus.DONE
    assert state(world, short).status is FollowUpStatus.PENDING


def test_slow_links_do_not_keep_a_good_one_from_its_turn(world: World, gallery: Gallery) -> None:
    pages = [*(slow(world, 30, DEAD_LINK) for _ in range(3)), picture(3)]
    job_id = archived(world, gallery.job(*pages))
    assert gallery.fetched() == ["/image-0", "/image-1"]

    again(world, job_id)

    assert gallery.fetched()[:2] == ["/image-2", "/image-3"], "those that were not tried yet"
    assert world.job(job_id).images[3].copy is not None
    gallery.pages["/image-2"] = picture(2)
    for _ in range(3):
        again(world, job_id)
    assert "/image-2" in gallery.fetched()


def test_slow_links_are_given_up_too(world: World, gallery: Gallery) -> None:
    pages = [slow(world, 30, DEAD_LINK) for _ in range(5)]
    job_id = archived(world, gallery.job(*pages, expires=[0] * 5))
    asked = gallery.fetched()
    while state(world, job_id).status is FollowUpStatus.PENDING:
        again(world, job_id)
        asked += gallery.fetched()

    assert state(world, job_id).status is FollowUpStatus.DEAD
    assert errors(world, job_id) == ["it answered 404"] * 5
    assert LATE <= world.clock.now - NOON < LATE + 2 * LONGEST * 1000
    assert len(set(asked)) == 5


def test_two_workers_make_one_copy(world: World, gallery: Gallery) -> None:
    def overtaken(_: Asked) -> Answer:
        archived(world, job_id)
        return Answer(200, picture())

    job_id = gallery.job(overtaken)
    archived(world, job_id)

    assert gallery.fetched() == ["/image-0"]
    assert world.events(job_id).count("archive_done") == 1


def test_many_workers_make_one_copy(world: World, gallery: Gallery) -> None:
    job_id = gallery.job(picture())
    together = threading.Barrier(8)

    def work() -> None:
        together.wait(5)
        archived(world, job_id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert gallery.fetched() == ["/image-0"]
    assert world.events(job_id).count("archive_done") == 1


@pytest.mark.parametrize("theirs", [picture(1), DEAD_LINK], ids=["an image", "none"])
def test_what_a_worker_brings_after_its_lease_ran_out_changes_nothing(
    world: World, gallery: Gallery, theirs: Page
) -> None:
    def stalled(_: Asked) -> Answer:
        world.clock.forward(step.lease_ms(world.runtime) / 1000)
        gallery.pages["/image-0"] = picture(0)
        archived(world, job_id)
        return Answer(200, theirs) if isinstance(theirs, bytes) else DEAD_LINK

    job_id = gallery.job(stalled)
    archived(world, job_id)

    [image] = world.job(job_id).images
    assert image.copy is not None
    assert image.copy.sha256 == hashlib.sha256(picture(0)).hexdigest()
    assert state(world, job_id).status is FollowUpStatus.DONE
    assert world.events(job_id).count("archive_done") == 1
    assert len(kit.files(world)) == 3


# A worker that is killed -------------------------------------------------------------------


class Killed(BaseException):
    """SIGKILL, as far as one process can play it."""


def killed(*_: object, **__: object) -> None:
    raise Killed


def test_a_worker_killed_before_the_ledger_knew_leaves_nothing_that_harms(
    world: World, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = gallery.job(picture(0), picture(1))
    with monkeypatch.context() as patch:
        patch.setattr(world.ledger.follow_ups, "done", killed)
        with pytest.raises(Killed):
            archived(world, job_id)
    before = kit.files(world)
    assert len(before) == 5
    assert kit.next_look(world, job_id) == step.lease_ms(world.runtime) / 1000

    again(world, job_id)

    after = kit.files(world)
    manifest = place(job_id, "job.json")
    assert {**after, manifest: b""} == {**before, manifest: b""}
    assert state(world, job_id).status is FollowUpStatus.DONE


@pytest.mark.parametrize("name", ["0.png", "0.thumb.webp", "1.png", "job.json"])
def test_a_worker_killed_while_storing_leaves_nothing_half(
    world: World, gallery: Gallery, tmp_path: Path, name: str
) -> None:
    def kill(path: str) -> bool:
        if path.endswith(name):
            raise Killed
        return False

    world, storage = kit.watched(world, tmp_path)
    job_id = gallery.job(picture(0), picture(1))
    storage.refuses = kill
    with pytest.raises(Killed):
        archived(world, job_id)
    assert place(job_id, name) not in kit.files(world)
    assert place(job_id, "job.json") not in kit.files(world)
    storage.refuses = lambda _: False

    again(world, job_id)

    names = ("0.png", "0.thumb.webp", "1.png", "1.thumb.webp", "job.json")
    assert set(kit.files(world)) == {place(job_id, each) for each in names}
    assert state(world, job_id).status is FollowUpStatus.DONE


def test_when_redis_goes_away_at_the_end_the_lease_brings_the_job_back(
    world: World, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("away")

    job_id = gallery.job(DEAD_LINK)
    with monkeypatch.context() as patch:
        patch.setattr(world.ledger.follow_ups, "later", away)
        with pytest.raises(LedgerUnavailable):
            archived(world, job_id)
    gallery.pages["/image-0"] = picture()

    assert state(world, again(world, job_id)).status is FollowUpStatus.DONE


def test_the_step_follows_every_success_and_nothing_else(world: World) -> None:
    done = lives.ended(world)
    lives.ended(world, lives.failure())
    lives.cancelled(world)

    assert [sent for sent in world.nudges.sent if sent[0] is Step.ARCHIVE] == [(Step.ARCHIVE, done)]
