"""The times of the archive step's retries, and its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.backoff import back_off
from orchestrator.jobs.model import FollowUpStatus, Status
from orchestrator.steps import archive as archive_step
from orchestrator.steps.archive import (
    FIRST_WAIT_SECONDS,
    LAST_TRY_BEFORE_EXPIRY_MS,
    LONGEST_WAIT_SECONDS,
    MIN_TRIES,
    MIN_TRYING_MS,
    TRY_UNKNOWN_EXPIRY_MS,
)
from tests.support import archive_kit
from tests.support.archive_kit import (
    DEAD_LINK,
    Gallery,
    again,
    archived,
    errors,
    path_of,
    picture,
    state,
    times_of_tries,
)
from tests.support.fakes import NOON, Answer, Harness


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (1.0, 1.5)])
def test_waits_double_with_jitter_up_to_the_longest(
    harness: Harness, gallery: Gallery, chance: float, factor: float
) -> None:
    harness.chance.number = chance
    job_id, waits = archived(harness, gallery.job(Answer(503))), []
    for _ in range(12):
        waits.append(archive_kit.seconds_until_due(harness, job_id))
        again(harness, job_id)

    waits_of_the_plan = [
        back_off(tries, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, harness.chance)
        for tries in range(12)
    ]
    assert waits[0] == FIRST_WAIT_SECONDS * factor
    assert waits == waits_of_the_plan
    assert state(harness, job_id).tries == 13
    assert harness.events(job_id).count("archive_failed") == 13


@pytest.mark.parametrize(
    ("header", "wait"),
    [("900", 900)]
    + [
        (header, FIRST_WAIT_SECONDS)
        for header in ("2", "soon", "0", "-1", "0.05", "Thu, 01 Jan 1970 00:00:00 GMT")
    ],
)
def test_retry_after_of_a_link_is_followed(
    harness: Harness, gallery: Gallery, header: str, wait: float
) -> None:
    job_id = archived(harness, gallery.job(Answer(503, b"", {"Retry-After": header})))

    assert archive_kit.seconds_until_due(harness, job_id) == wait


def test_jobs_that_are_told_the_same_wait_come_back_at_different_times(
    harness: Harness, gallery: Gallery
) -> None:
    busy = Answer(503, b"", {"Retry-After": "60"})
    waits = []
    for chance in (0.0, 0.5, 1.0):
        harness.chance.number = chance
        waits.append(archive_kit.seconds_until_due(harness, archived(harness, gallery.job(busy))))

    assert waits == [60, 75, 90]


def test_the_longest_retry_after_of_the_links_is_followed(
    harness: Harness, gallery: Gallery
) -> None:
    busy = [Answer(503, b"", {"Retry-After": seconds}) for seconds in ("30", "90", "60")]

    job_id = archived(harness, gallery.job(*busy))

    assert archive_kit.seconds_until_due(harness, job_id) == 90


def test_the_error_of_the_job_is_that_of_its_first_failed_image(
    harness: Harness, gallery: Gallery
) -> None:
    job_id = archived(harness, gallery.job(picture(), Answer(403), DEAD_LINK))

    assert errors(harness, job_id) == [None, "it answered 403", "it answered 404"]
    assert state(harness, job_id).error == "it answered 403"


def test_a_wait_does_not_go_beyond_the_expiry_of_the_link(
    harness: Harness, gallery: Gallery
) -> None:
    busy = Answer(503, b"", {"Retry-After": "3600"})
    job_id = archived(harness, gallery.job(busy, expires=[600_000]))
    times = times_of_tries(harness, job_id)

    assert times[:2] == [600 - LAST_TRY_BEFORE_EXPIRY_MS / 1000, 600], (
        "shortly before the link expires, and when it expires"
    )
    assert len(times) == MIN_TRIES - 1
    assert state(harness, job_id).status is FollowUpStatus.DEAD


def test_each_link_gets_its_last_tries(harness: Harness, gallery: Gallery) -> None:
    # The back-off is long when the second link expires, hours after the first.
    busy = Answer(503)
    job_id = archived(harness, gallery.job(busy, busy, expires=[60_000, 50_000_000]))
    times = times_of_tries(harness, job_id)

    assert times[-2:] == [50_000 - LAST_TRY_BEFORE_EXPIRY_MS / 1000, 50_000]
    assert times[0] == FIRST_WAIT_SECONDS
    assert 60 in times


#: Numbers of a server that name no time of this link: seconds instead of ms, a lifetime, the past.
@pytest.mark.parametrize("expiry", [NOON // 1000, 3600, 1, 0, -5, NOON - 3_600_000])
def test_an_expiry_before_the_job_is_no_expiry(
    harness: Harness, gallery: Gallery, expiry: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_step, "TRY_UNKNOWN_EXPIRY_MS", 7_200_000)
    job_id = archived(harness, gallery.job(Answer(503), expires=[expiry - NOON]))

    times = times_of_tries(harness, job_id)

    assert times[-1] == 7200


@pytest.mark.parametrize("lifetime", [1, 1000, 30_000])
def test_a_short_expiry_does_not_undercut_our_own_tries(
    harness: Harness, gallery: Gallery, lifetime: int
) -> None:
    job_id = archived(harness, gallery.job(Answer(503), expires=[lifetime]))

    times = times_of_tries(harness, job_id)

    assert len(times) + 1 >= MIN_TRIES
    assert times[-1] >= MIN_TRYING_MS / 1000
    assert lifetime / 1000 in times, "the server's number still orders a try"
    assert state(harness, job_id).status is FollowUpStatus.DEAD


def test_no_link_is_tried_for_ever(
    harness: Harness, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_step, "MAX_TRYING_MS", 7_200_000)
    job_id = archived(harness, gallery.job(Answer(503), expires=[10**14]))

    assert times_of_tries(harness, job_id)[-1] == 7200
    assert [image.missing for image in harness.job(job_id).images] == [False]


@pytest.mark.parametrize(
    "page",
    [DEAD_LINK, Answer(410), Answer(302, b"", {"Location": "http://169.254.169.254/"})],
    ids=["404", "410", "forbidden redirect"],
)
def test_a_failure_that_is_usually_final_is_given_up_after_some_minutes(
    harness: Harness, gallery: Gallery, page: Answer
) -> None:
    job_id = archived(harness, gallery.job(page, expires=[None]))

    times = times_of_tries(harness, job_id)

    assert len(times) + 1 >= MIN_TRIES
    assert MIN_TRYING_MS / 1000 <= times[-1] < 2 * MIN_TRYING_MS / 1000
    assert state(harness, job_id).status is FollowUpStatus.DEAD
    assert [image.missing for image in harness.job(job_id).images] == [True]


def test_a_job_is_given_up_when_its_links_have_expired(harness: Harness, gallery: Gallery) -> None:
    job_id = archived(harness, gallery.job(picture(), DEAD_LINK, expires=[None, 4000]))
    assert archive_kit.seconds_until_due(harness, job_id) == 4

    tries = len(times_of_tries(harness, job_id)) + 1

    dead = state(harness, job_id)
    assert (dead.status, dead.tries) == (FollowUpStatus.DEAD, tries)
    assert (dead.error, dead.due_at) == ("it answered 404", None)
    assert errors(harness, job_id) == [None, "it answered 404"]
    assert harness.job(job_id).status is Status.SUCCEEDED
    assert harness.events(job_id)[-1] == "archive_dead"
    assert archive_kit.seconds_until_due(harness, job_id) is None
    document = archive_kit.manifest(harness, job_id)
    assert [image["error"] for image in document["images"]] == [None, "it answered 404"]
    assert [image["path"] for image in document["images"]] == [path_of(job_id, "0.png"), None]
    assert set(archive_kit.files(harness)) == {path_of(job_id, n) for n in ("0.png", "job.json")}


def test_an_image_can_come_after_the_expiry_of_its_link(harness: Harness, gallery: Gallery) -> None:
    job_id = archived(harness, gallery.job(Answer(503), expires=[0]))
    assert archive_kit.seconds_until_due(harness, job_id) == FIRST_WAIT_SECONDS
    gallery.pages["/image-0"] = picture()

    again(harness, job_id)

    assert state(harness, job_id).status is FollowUpStatus.DONE, (
        "our clock and the clock of the provider differ"
    )


def test_a_link_without_an_expiry_time_is_tried_for_days(
    harness: Harness, gallery: Gallery
) -> None:
    job_id = archived(harness, gallery.job(Answer(403), expires=[None]))

    assert times_of_tries(harness, job_id)[-1] == TRY_UNKNOWN_EXPIRY_MS / 1000
    assert state(harness, job_id).tries > 200


def test_only_missing_images_are_fetched_again(harness: Harness, gallery: Gallery) -> None:
    job_id = archived(harness, gallery.job(picture(0), DEAD_LINK, picture(2)))
    assert gallery.fetched() == ["/image-0", "/image-1", "/image-2"]
    before = archive_kit.files(harness)
    first = harness.job(job_id).images[0].copy
    gallery.pages["/image-1"] = picture(1)

    again(harness, job_id)

    assert gallery.fetched() == ["/image-1"]
    assert before.items() < archive_kit.files(harness).items()
    assert harness.job(job_id).images[0].copy == first
    assert state(harness, job_id).status is FollowUpStatus.DONE


def test_a_job_that_is_not_due_is_not_fetched(harness: Harness, gallery: Gallery) -> None:
    job_id = archived(harness, gallery.job(DEAD_LINK))
    gallery.fetched()
    harness.clock.forward(FIRST_WAIT_SECONDS - 0.001)

    archived(harness, job_id)

    assert gallery.fetched() == []


def test_an_archived_job_is_not_fetched_again(
    harness: Harness, gallery: Gallery, tmp_path: Path
) -> None:
    harness, storage = archive_kit.with_recording_storage(harness, tmp_path)
    job_id = archived(harness, gallery.job(picture()))
    gallery.fetched()
    storage.paths.clear()
    harness.clock.forward(86_400)

    archived(harness, job_id)

    assert (gallery.fetched(), storage.paths) == ([], [])


@pytest.mark.parametrize("job_id", ["job_" + "0" * 28, "job_01m7z20phnfb7am34n5y69ch6f00"])
def test_a_job_that_is_gone_is_no_error(harness: Harness, job_id: str) -> None:
    archived(harness, job_id)

    assert archive_kit.files(harness) == {}
