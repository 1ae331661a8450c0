"""docs/archive.md against the code: its example, its tables and its commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.api.images import (
    FETCH_SECONDS,
    LINK_SECONDS,
    MAX_FETCHES,
    RETRY_AFTER_SECONDS,
)
from orchestrator.jobs.answer_schemas import ImageSchema, JobSchema
from orchestrator.jobs.model import DEFAULT_LINK_LIFETIME_MS, FollowUpStatus
from orchestrator.ledger.identifiers import folder
from orchestrator.net import fetched_body
from orchestrator.operations import image_copies
from orchestrator.operations.manifest import VERSION
from orchestrator.operations.stats import RISK_HOURS
from orchestrator.runtime import DOWNLOADS_PER_THREAD
from orchestrator.steps import archive
from orchestrator.storage import bucket, file_kinds, images, storage, thumbnails
from tests.docs.pages import DocPage, code, numbers, seconds
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, archived, ended, picture
from tests.support.fakes import Harness
from workers.schedule import PRUNE_AT

PAGE = DocPage("docs/archive.md")


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    return archive_kit.harness(start, tmp_path)


def example() -> Any:
    [block] = PAGE.blocks("json")
    return orjson.loads(block)


# The example -------------------------------------------------------------------------------


def test_the_example_has_the_fields_of_a_manifest(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(picture(), metadata={"order": 7}))
    written, shown = archive_kit.manifest(harness, job_id), example()

    assert list(shown) == list(written)
    assert shown["manifest"] == VERSION
    for name in ("images", "attempts", "timeline"):
        assert list(shown[name][0]) == list(written[name][0]), name
    names = {**JobSchema().fields, "manifest": None, "timeline": None}
    assert set(shown) == set(names) - {"archive", "notification"}
    assert set(shown["images"][0]) == {*ImageSchema().fields, "path", "thumbnail"}


def test_the_example_shows_events_of_the_ledger(harness: Harness) -> None:
    job_id = job_states.ended(harness)
    details = {event.name: set(event.detail) for event in harness.ledger.events(job_id)}

    for event in example()["timeline"]:
        assert set(event["detail"]) <= details[event["event"]]


def test_the_example_has_the_paths_of_its_job_id() -> None:
    shown = example()
    path = folder(shown["id"])

    assert shown["images"][0]["path"] == f"{path}/0.png"
    assert shown["images"][0]["thumbnail"] == f"{path}/0.thumb.webp"
    assert shown["images"][0]["url"].endswith(f"/v1/jobs/{shown['id']}/images/0")
    tree = re.findall(r"(?m)^(\d{4}-\d\d-\d\d)/\n    (job_\w+)/$", PAGE.text)
    assert ["/".join(pair) for pair in tree] == [path]


def test_the_tree_lists_the_files_of_a_job(harness: Harness) -> None:
    archived(harness, Gallery(harness).job(picture(), picture(form="JPEG")))

    tree = PAGE.text[: PAGE.text.index("### The manifest")]
    listed = re.findall(r"(?m)^        (\S+)", tree)
    files = [name.rpartition("/")[2] for name in archive_kit.files(harness)]
    assert sorted(files) == sorted(listed)


# Limits and times --------------------------------------------------------------------------


def test_the_checks_have_the_limits_of_the_code(harness: Harness) -> None:
    settings = harness.runtime.settings
    limits = {row[0]: row[1] for row in PAGE.rows("check")}

    assert numbers(limits["redirects"]) == [fetched_body.MAX_REDIRECTS]
    assert numbers(limits["size, encoded and decoded"]) == [settings.max_image_bytes]
    assert numbers(limits["pixels"]) == [settings.max_image_pixels]
    assert numbers(limits["each side"]) == [images.MIN_SIDE_PIXELS]
    listed = limits["format of the bytes, whatever the headers say"].upper().split(", ")
    assert listed == list(thumbnails.FORMATS)
    assert numbers(limits["a plain text"]) == [file_kinds.MAX_MESSAGE_BYTES]


def test_the_time_of_a_download_is_the_default(start: Callable[..., Harness]) -> None:
    limit = start().runtime.settings.download_timeout_seconds
    assert seconds(PAGE.value("check", "time of the download")) == [limit]


def test_the_resources_are_those_of_a_worker(start: Callable[..., Harness]) -> None:
    values = [numbers(row[1]) for row in PAGE.rows("resource")]
    threads = start().runtime.settings.archive_threads
    assert values == [
        [thumbnails.THUMBNAIL_PIXELS],
        [thumbnails.MAX_DECODERS, 1, thumbnails.LARGE_PIXELS],
        [image_copies.MAX_MEMORY_BYTES],
        [threads],
        [int(DOWNLOADS_PER_THREAD * threads)],
    ]


def test_the_times_of_tries_are_those_of_the_code() -> None:
    assert seconds(PAGE.value("time", "first wait")) == [archive.FIRST_WAIT_SECONDS]
    assert seconds(PAGE.value("time", "longest wait")) == [archive.LONGEST_WAIT_SECONDS]
    assert seconds(PAGE.value("time", "last tries")) == [archive.LAST_TRY_BEFORE_EXPIRY_MS / 1000]
    without = PAGE.value("time", "tries for a link without an expiry time")
    assert seconds(without) == [archive.TRY_UNKNOWN_EXPIRY_MS / 1000]
    assert seconds(PAGE.value("time", "lease of a worker on a job")) == [
        archive.LEASE_MARGIN_MS / 1000
    ]
    assert seconds(PAGE.value("time", "longest time of tries for a link")) == [
        archive.MAX_TRYING_MS / 1000
    ]
    least = PAGE.value("time", "fewest tries, and shortest time of tries")
    assert numbers(least)[0] == archive.MIN_TRIES
    assert seconds(least) == [archive.MIN_TRYING_MS / 1000]


def test_the_limits_of_images_that_are_passed_on_are_those_of_the_code() -> None:
    assert numbers(PAGE.value("until it is archived", "images fetched at once")) == [MAX_FETCHES]
    assert seconds(PAGE.value("until it is archived", "time for a fetch")) == [FETCH_SECONDS]
    assert seconds(PAGE.value("until it is archived", "`Retry-After`")) == [RETRY_AFTER_SECONDS]


def test_images_at_risk_are_those_of_stats() -> None:
    [within] = [row[1] for row in PAGE.rows("time") if row[0].startswith("an image is at risk")]
    assert seconds(within) == [RISK_HOURS * 3600]
    lifetime = PAGE.value("time", "assumed lifetime of a link without an expiry time")
    assert seconds(lifetime) == [DEFAULT_LINK_LIFETIME_MS / 1000]


def test_pruning_has_the_time_of_beat(start: Callable[..., Harness]) -> None:
    assert f"{PRUNE_AT['hour']:02}:{PRUNE_AT['minute']:02} UTC" in PAGE.text
    assert (
        f"`ORCHESTRATOR_RETENTION_DAYS` ({start().runtime.settings.retention_days:g})" in PAGE.text
    )


# Tables ------------------------------------------------------------------------------------


def test_every_storage_is_listed() -> None:
    urls = PAGE.column("URL")

    assert {url.partition("://")[0] for url in urls} == {"file", *bucket.SCHEMES}
    assert [url for url in urls if url not in storage.ALLOWED_URLS] == []


def test_every_variable_that_the_bucket_reads_is_listed() -> None:
    listed = [code(row[0]) for row in PAGE.rows("variable")]

    for names in bucket._ENDPOINTS.values():
        assert list(names) in listed, "in this order"
    assert ["AWS_CA_BUNDLE"] in listed


def test_every_status_of_an_image_is_listed() -> None:
    rows = {int(row[0]): row[1] for row in PAGE.rows("status")}

    assert set(rows) == {200, 302, 304, 404, 410, 503}
    assert seconds(rows[302]) == [LINK_SECONDS]


def test_every_status_of_an_archive_is_listed() -> None:
    known = set(FollowUpStatus) - {FollowUpStatus.WAITING, FollowUpStatus.GONE}
    assert set(PAGE.column("`archive.status`")) == {status.value for status in known}


# Commands ----------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_the_command_verifies_an_archive(harness: Harness, tmp_path: Path) -> None:
    [command] = re.findall(r"(?m)^\$ (find .+)$", PAGE.text)
    gallery = Gallery(harness)
    jobs = [archived(harness, gallery.job(picture(n), picture(n + 1))) for n in range(3)]
    ended(harness, gallery.job(b"lost", expires=[0]))

    def verified() -> int:
        line = ["/bin/sh", "-c", command]
        return subprocess.run(line, cwd=tmp_path / "archive", check=False).returncode

    assert verified() == 0
    copy = harness.job(jobs[1]).images[1].copy
    assert copy is not None
    (tmp_path / "archive" / copy.path).write_bytes(b"rotten")
    assert verified() != 0
