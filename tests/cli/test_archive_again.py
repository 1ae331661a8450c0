"""`orchestrator archive`: images that were given up, tried again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.jobs.model import FollowUpStatus, Image, Outcome, Step
from orchestrator.steps.archive import archive as step
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, LinkAnswer, ended, picture, state
from tests.support.fakes import Answer, Harness

DEAD, DONE, PENDING = FollowUpStatus.DEAD, FollowUpStatus.DONE, FollowUpStatus.PENDING


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    return archive_kit.harness(start, tmp_path)


@pytest.fixture
def gallery(harness: Harness) -> Gallery:
    return Gallery(harness)


def given_up(gallery: Gallery, *pages: LinkAnswer) -> str:
    job_id = ended(gallery.harness, gallery.job(*pages))
    assert state(gallery.harness, job_id).status is DEAD
    return job_id


def mend(gallery: Gallery) -> None:
    """Every link has an image now."""
    gallery.pages = dict.fromkeys(gallery.pages, picture())


def archive(*words: str) -> Result:
    return CliRunner().invoke(main, ["archive", *words])


def test_an_image_whose_link_works_again_is_archived_at_once(gallery: Gallery) -> None:
    job_id, harness = given_up(gallery, picture(), Answer(404)), gallery.harness
    mend(gallery)
    gallery.fetched()

    done = archive(job_id)

    assert (done.exit_code, done.output) == (0, "jobs with a copy of every image: 1 of 1\n")
    assert state(harness, job_id).status is DONE
    assert all(image.copy and not image.given_up for image in harness.job(job_id).images)
    assert gallery.fetched() == ["/image-1"], "the other image has its copy"
    assert archive(job_id).exit_code == 0, "a second command finds it done"
    assert gallery.fetched() == []


def test_a_dead_link_is_named_and_tried_again_by_workers_until_it_is_given_up(
    gallery: Gallery,
) -> None:
    job_id, harness = given_up(gallery, Answer(404)), gallery.harness

    done = archive(job_id)

    assert done.exit_code == 1
    assert f"{job_id}: image 0: it answered 404; tried again at 2026-" in done.output
    assert "every image: 0 of 1" in done.output
    assert state(harness, job_id).status is PENDING
    assert archive_kit.seconds_until_due(harness, job_id)
    ended(harness, job_id)
    assert state(harness, job_id).status is DEAD


def test_all_given_up_are_tried_and_the_rest_is_counted(gallery: Gallery) -> None:
    jobs = [given_up(gallery, Answer(404)) for _ in range(3)]
    waiting = gallery.job(Answer(404))
    mend(gallery)

    first = json.loads(archive("--all-given-up", "--limit", "2", "--json").output)
    second = json.loads(archive("--all-given-up", "--json").output)

    assert (len(first["archived"]), first["missing"], first["left"]) == (2, {}, 1)
    assert sorted(first["archived"] + second["archived"]) == sorted(jobs)
    assert second["left"] == 0
    assert state(gallery.harness, waiting).status is PENDING


def test_an_image_that_waits_for_its_next_try_is_archived_at_once(gallery: Gallery) -> None:
    job_id, harness = gallery.job(Answer(503)), gallery.harness
    step(harness.runtime, job_id)
    assert state(harness, job_id).tries == 1
    mend(gallery)

    done = archive(job_id)

    assert (done.exit_code, done.output) == (0, "jobs with a copy of every image: 1 of 1\n")
    assert state(harness, job_id).status is DONE


def test_a_leased_archive_is_left_to_its_worker(gallery: Gallery) -> None:
    job_id, harness = gallery.job(picture()), gallery.harness
    harness.ledger.follow_ups.claim(job_id, Step.ARCHIVE, now=harness.clock.now, lease_ms=60_000)

    done = archive(job_id)

    assert done.exit_code == 1
    assert f"{job_id}: image 0: not tried yet; a worker has it now" in done.output
    assert gallery.fetched() == []


def test_what_cannot_be_archived_is_said(gallery: Gallery) -> None:
    harness = gallery.harness
    queued, failed = harness.enqueue(), job_states.ended(harness, job_states.failure())
    lost = Outcome.succeeded((Image("", error="an empty file", given_up=True),))
    inline = ended(harness, job_states.ended(harness, lost))

    done = archive(queued, failed, inline)

    assert done.exit_code == 1
    assert done.output.splitlines()[:3] == [
        f"{queued}: it is queued and has no images yet; wait for its outcome",
        f"{failed}: it has no images",
        f"{inline}: the image came inside the provider's answer and has no link (an empty file)",
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "name at least one job, or use --all-given-up"),
        (["job_1", "--all-given-up"], "JOB_ID and --all-given-up exclude each other"),
        (["nonsense"], "job 'nonsense' does not exist in this ledger"),
        (["--all-given-up", "--limit", "0"], "'0' is not a whole number from 1 to 10000"),
    ],
)
def test_a_bad_command_is_one_clear_line(harness: Harness, words: list[str], problem: str) -> None:
    done = archive(*words)

    assert done.exit_code != 0
    assert problem in done.output
