"""When the archive step is taken again, and when it is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.archive.step import FIRST, IN_TIME, LONGEST, PATIENCE
from orchestrator.jobs import FollowUpStatus, Status
from tests.archive import kit
from tests.archive.kit import (
    DEAD_LINK,
    Gallery,
    again,
    archived,
    errors,
    picture,
    place,
    state,
)
from tests.fakes import NOON, Answer, World


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (1.0, 1.5)])
def test_waits_double_with_jitter_up_to_the_longest(
    world: World, gallery: Gallery, chance: float, factor: float
) -> None:
    world.chance.number = chance
    job_id, waits = archived(world, gallery.job(DEAD_LINK)), []
    for _ in range(12):
        waits.append(kit.next_look(world, job_id))
        again(world, job_id)

    assert waits == [min(FIRST * 2.0**n * factor, LONGEST) for n in range(12)]
    assert state(world, job_id).tries == 13
    assert world.events(job_id).count("archive_failed") == 13


@pytest.mark.parametrize(("asked", "wait"), [("900", 900), ("2", FIRST), ("soon", FIRST)])
def test_a_server_that_asks_for_patience_has_it(
    world: World, gallery: Gallery, asked: str, wait: float
) -> None:
    job_id = archived(world, gallery.job(Answer(503, b"", {"Retry-After": asked})))

    assert kit.next_look(world, job_id) == wait


def test_the_longest_patience_that_any_link_asks_for_counts(world: World, gallery: Gallery) -> None:
    busy = [Answer(503, b"", {"Retry-After": seconds}) for seconds in ("30", "90", "60")]

    job_id = archived(world, gallery.job(*busy))

    assert kit.next_look(world, job_id) == 90


def test_the_first_image_that_failed_says_why_for_the_job(world: World, gallery: Gallery) -> None:
    job_id = archived(world, gallery.job(picture(), Answer(403), DEAD_LINK))

    assert errors(world, job_id) == [None, "it answered 403", "it answered 404"]
    assert state(world, job_id).error == "it answered 403"


def test_patience_ends_where_the_link_does(world: World, gallery: Gallery) -> None:
    busy = Answer(503, b"", {"Retry-After": "3600"})
    job_id = archived(world, gallery.job(busy, expires=[600_000]))

    looks = []
    while state(world, job_id).status is FollowUpStatus.PENDING:
        looks.append((world.clock.now - NOON) / 1000 + (kit.next_look(world, job_id) or 0))
        again(world, job_id)

    assert looks == [600 - IN_TIME / 1000, 600], "shortly before the link dies, and when it does"
    assert state(world, job_id).status is FollowUpStatus.DEAD


def test_the_last_tries_are_made_with_each_link(world: World, gallery: Gallery) -> None:
    # The back-off has grown long when the second link dies, days after the first.
    job_id = archived(world, gallery.job(DEAD_LINK, DEAD_LINK, expires=[60_000, 50_000_000]))
    looks = []
    while state(world, job_id).status is FollowUpStatus.PENDING:
        again(world, job_id)
        looks.append(world.clock.now - NOON)

    assert looks[-2:] == [50_000_000 - IN_TIME, 50_000_000]
    assert looks[0] == FIRST * 1000
    assert 60_000 in looks


def test_a_job_is_given_up_when_its_links_are_dead(world: World, gallery: Gallery) -> None:
    job_id = archived(world, gallery.job(picture(), DEAD_LINK, expires=[None, 4000]))
    assert kit.next_look(world, job_id) == 4

    again(world, job_id)

    dead = state(world, job_id)
    assert (dead.status, dead.tries) == (FollowUpStatus.DEAD, 2)
    assert (dead.error, dead.next_look) == ("it answered 404", None)
    assert errors(world, job_id) == [None, "it answered 404"]
    assert world.job(job_id).status is Status.SUCCEEDED
    assert world.events(job_id)[-1] == "archive_dead"
    assert kit.next_look(world, job_id) is None
    told = kit.manifest(world, job_id)
    assert [image["error"] for image in told["images"]] == [None, "it answered 404"]
    assert [image["path"] for image in told["images"]] == [place(job_id, "0.png"), None]
    assert set(kit.files(world)) == {
        place(job_id, n) for n in ("0.png", "0.thumb.webp", "job.json")
    }


def test_one_millisecond_before_its_death_a_link_is_not_given_up(
    world: World, gallery: Gallery
) -> None:
    assert state(world, archived(world, gallery.job(DEAD_LINK, expires=[1]))).status == "pending"
    assert state(world, archived(world, gallery.job(DEAD_LINK, expires=[0]))).status == "dead"


def test_a_link_that_is_dead_before_the_first_try_is_tried_once(
    world: World, gallery: Gallery
) -> None:
    job_id = archived(world, gallery.job(picture(), expires=[-1000]))

    assert state(world, job_id).status is FollowUpStatus.DONE, "clocks differ"


def test_a_link_that_does_not_say_when_it_dies_is_tried_for_days(
    world: World, gallery: Gallery
) -> None:
    job_id = archived(world, gallery.job(DEAD_LINK, expires=[None]))
    while state(world, job_id).status is FollowUpStatus.PENDING:
        again(world, job_id)

    assert world.clock.now == NOON + PATIENCE
    assert state(world, job_id).tries > 300


def test_only_what_is_missing_is_fetched_again(world: World, gallery: Gallery) -> None:
    job_id = archived(world, gallery.job(picture(0), DEAD_LINK, picture(2)))
    assert gallery.fetched() == ["/image-0", "/image-1", "/image-2"]
    before = kit.files(world)
    first = world.job(job_id).images[0].copy
    gallery.pages["/image-1"] = picture(1)

    again(world, job_id)

    assert gallery.fetched() == ["/image-1"]
    assert before.items() < kit.files(world).items()
    assert world.job(job_id).images[0].copy == first
    assert state(world, job_id).status is FollowUpStatus.DONE


def test_before_its_next_look_a_job_is_left_alone(world: World, gallery: Gallery) -> None:
    job_id = archived(world, gallery.job(DEAD_LINK))
    gallery.fetched()
    world.clock.forward(FIRST - 0.001)

    archived(world, job_id)

    assert gallery.fetched() == []


def test_a_job_that_is_archived_is_left_alone(
    world: World, gallery: Gallery, tmp_path: Path
) -> None:
    world, storage = kit.watched(world, tmp_path)
    job_id = archived(world, gallery.job(picture()))
    gallery.fetched()
    storage.paths.clear()
    world.clock.forward(86_400)

    archived(world, job_id)

    assert (gallery.fetched(), storage.paths) == ([], [])


@pytest.mark.parametrize("job_id", ["job_" + "0" * 28, "job_01m7z20phnfb7am34n5y69ch6f00"])
def test_a_job_that_is_gone_is_no_error(world: World, job_id: str) -> None:
    archived(world, job_id)

    assert kit.files(world) == {}
