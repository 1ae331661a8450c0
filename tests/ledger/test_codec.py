"""The stored form of images and timelines, and that of the first format."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from ulid import ULID

from orchestrator.jobs.event import Event
from orchestrator.jobs.model import Copy, ErrorCode, FollowUpStatus, Image, JobError, Outcome, Step
from orchestrator.ledger import Ledger, codec, identifiers, keys
from orchestrator.ledger.refusals import FORMAT
from tests.ledger import kit
from tests.ledger.kit import NEXT_DUE, NOW, SUCCESS
from tests.support.strategies import TEXT

JOB = "job_01m8kywsyymcgz7ywzt5hp31tp00"
FOLDER = f"2026-11-29/{JOB}"
PATHS = st.sampled_from([f"{FOLDER}/0.png", f"{FOLDER}/inline-ab.webp", "0.png", f"{FOLDER}/a/0.c"])
THUMBNAILS = st.none() | st.sampled_from([f"{FOLDER}/0.thumb.webp", "t", f"{FOLDER}/0.png"])
NUMBERS = st.none() | st.integers(0, 2**40)
COPIES = st.builds(
    *(Copy, PATHS, st.just("ab" * 32), st.integers(0, 2**40), NUMBERS, NUMBERS, TEXT),
    *(st.integers(0, 2**42), THUMBNAILS, st.none() | TEXT),
)
IMAGES = st.builds(
    *(Image, TEXT, NUMBERS, st.none() | COPIES, st.none() | TEXT, st.none()),
    *(st.integers(0, 9), st.booleans(), st.booleans()),
)


@pytest.mark.slow
@given(st.lists(IMAGES, max_size=3).map(tuple))
def test_images_are_read_as_they_were_stored(images: tuple[Image, ...]) -> None:
    text = codec.images_text(JOB, images)

    assert codec.read_images(JOB, text) == images
    assert bool(text) == bool(images)


def test_what_the_job_id_and_the_path_tell_is_not_stored() -> None:
    copy = Copy(f"{FOLDER}/0.png", "ab", 9, 4, 5, "image/png", NOW, f"{FOLDER}/0.thumb.webp")

    [stored] = json.loads(codec.images_text(JOB, (Image("https://x/", copy=copy),)))

    left = {"sha256": "ab", "bytes": 9, "width": 4, "height": 5, "archived_at": NOW}
    copied = {"path": "/0.png", "content_type": "image/png", **left}
    assert stored == {"source_url": "https://x/", "copy": copied}


def test_what_a_newer_version_knows_of_an_image_is_left_out() -> None:
    stored = json.loads(codec.images_text(JOB, (Image("https://x/", copy=kit.COPY),)))
    newer = [{**stored[0], "hologram": 1, "copy": {**stored[0]["copy"], "depth": 3}}]

    assert codec.read_images(JOB, json.dumps(newer)) == codec.read_images(JOB, json.dumps(stored))


def test_the_images_of_the_first_format_are_read() -> None:
    known: Any = {"path": f"{FOLDER}/0.png", "sha256": "ab", "bytes": 9, "width": 4, "height": 5}
    known |= {"content_type": "image/png", "archived_at": NOW, "check_error": None}
    image: Any = {"source_url": "https://x/", "expires_at": None, "error": None, "content": None}
    image |= {"tries": 0, "given_up": False, "missing": False}

    for thumbnail in (f"{FOLDER}/0.thumb.webp", "elsewhere.webp", None):
        copy = {**known, "thumbnail": thumbnail}
        text = json.dumps([{**image, "copy": copy}])
        assert codec.read_images(JOB, text) == (Image("https://x/", copy=Copy(**copy)),)


def make_first(redis: Redis, job_id: str, lines: list[str], **fields: str) -> None:
    """Give a job the form of the first format."""
    redis.hdel(keys.job(job_id), "format")
    redis.delete(keys.events(job_id))
    redis.rpush(keys.events(job_id), *lines)
    redis.hset(keys.job(job_id), mapping=fields)  # type: ignore[arg-type]


RUNNING_LINES = [
    f"{NOW} created {{}}",
    f'{NOW} submitting {{"attempt":1}}',
    f'{NOW} accepted {{"attempt":1,"task_id":"task-1"}}',
]


def test_a_job_of_the_first_format_goes_on_in_the_newest(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    expected = [*ledger.events(job_id)]
    cost = '{"amount":1.6,"unit":"credits","source":"reported"}'
    make_first(redis, job_id, RUNNING_LINES, tries="0", cost=cost)
    assert ledger.events(job_id) == expected
    assert kit.job(ledger, job_id).cost == kit.COST

    ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NEXT_DUE)

    detail = {"status": "succeeded", "by": "callback", "attempt": 1}
    assert ledger.events(job_id) == [*expected, Event(NEXT_DUE, "settled", detail)]
    assert kit.fields(redis, job_id)["format"] == str(FORMAT)
    kit.finish_follow_up(ledger, job_id, Step.ARCHIVE, now=NEXT_DUE)
    assert kit.job(ledger, job_id).images == kit.COPIED


def test_an_ended_job_of_the_first_format_is_read(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.running(ledger)
    error = JobError(ErrorCode.TIMEOUT, "too slow", retryable=True)
    ledger.settle_attempt(job_id, 1, "task-1", Outcome.failed(error), now=NEXT_DUE)
    job, events = kit.job(ledger, job_id), ledger.events(job_id)
    detail = '{"status":"failed","by":"callback","attempt":1,"code":"timeout"}'
    text = '{"code":"timeout","message":"too slow","provider_code":null,"retryable":true}'

    make_first(redis, job_id, [*RUNNING_LINES, f"{NEXT_DUE} settled {detail}"], error=text)

    assert (kit.job(ledger, job_id), ledger.events(job_id)) == (job, events)
    assert events[-1].detail == json.loads(detail)


def test_a_follow_up_of_the_first_format_began_when_it_says(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger)
    kit.finish_follow_up(ledger, job_id, Step.ARCHIVE)
    archive = kit.job(ledger, job_id).archive
    assert archive
    assert (archive.status, archive.since, archive.error) == (FollowUpStatus.DONE, NOW, None)

    first = {"archive.since": str(NOW - 5), "archive.error": ""}
    redis.hset(keys.job(job_id), mapping=first)  # type: ignore[arg-type]

    archive = kit.job(ledger, job_id).archive
    assert archive
    assert (archive.since, archive.error) == (NOW - 5, None)


def test_the_events_of_ends_without_an_attempt_are_whole(ledger: Ledger) -> None:
    job_id = kit.create(ledger)
    ledger.cancel(job_id, now=NOW - 3)

    assert ledger.events(job_id) == [
        Event(NOW, "created", {}),
        Event(NOW - 3, "settled", {"status": "cancelled", "by": "cancel"}),
    ]


def test_a_success_removes_the_error_of_the_try_before(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.settled(ledger)
    lease = kit.claim_follow_up(ledger, job_id, Step.NOTIFY)
    kit.retry_follow_up(ledger, lease, Step.NOTIFY, due_at=NOW)
    assert "notify.error" in kit.fields(redis, job_id)

    kit.finish_follow_up(ledger, job_id, Step.NOTIFY)

    assert "notify.error" not in kit.fields(redis, job_id)


def test_the_time_and_the_day_of_an_id_are_those_of_its_ulid() -> None:
    assert identifiers.folder(JOB) == FOLDER
    for time in (0, 1, NOW, NOW + kit.DAY - 1, 2**48 - 1):
        ulid = ULID.from_timestamp(time / 1000)
        job_id = f"job_{str(ulid).lower()}00"
        assert identifiers.created_at(job_id) == ulid.milliseconds
        if time < 2**44:
            day = ulid.datetime.date().isoformat()
            assert identifiers.folder(job_id) == f"{day}/{job_id}"


def test_a_request_has_the_same_fingerprint_in_every_version() -> None:
    expected = "0012758ce015ae140b5ad6e0a5e21b40"
    assert codec.fingerprint({"b": 1, "a": {"d": "é", "c": None}}) == expected
    assert codec.fingerprint({"a": {"c": None, "d": "é"}, "b": 1}) == expected
