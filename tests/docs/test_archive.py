"""docs/archive.md against the code: its figures, its example, its tables and its commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.api.images import ANSWERS, LINK_SECONDS
from orchestrator.cli.stack import ROOT
from orchestrator.jobs.model import DEFAULT_LINK_LIFETIME_MS, FollowUpStatus
from orchestrator.jobs.schemas import ImageSchema, JobSchema
from orchestrator.net import guarded_session
from orchestrator.operations.manifest import VERSION, folder
from orchestrator.operations.stats import RISK_HOURS
from orchestrator.steps import archive
from orchestrator.storage import bucket, images, source, storage
from tests.steps.archive.test_archive import FAILURES
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, archived, picture
from tests.support.fakes import Harness

PAGE = (ROOT / "docs" / "archive.md").read_text("utf-8")
#: The same with each white space as one blank.
TEXT = " ".join(PAGE.split())


def cells(header: str) -> list[list[str]]:
    """The rows of the table whose first column is called so."""
    table = PAGE[PAGE.index(f"| {header} |") :].split("\n\n", maxsplit=1)[0]
    return [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    return archive_kit.harness(start, tmp_path)


def example() -> Any:
    [block] = re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)
    return orjson.loads(block)


# The example -------------------------------------------------------------------------------


def test_the_example_has_the_fields_of_a_manifest(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(picture(), metadata={"order": 7}))
    told, shown = archive_kit.manifest(harness, job_id), example()

    assert list(shown) == list(told)
    assert shown["manifest"] == VERSION
    for name in ("images", "attempts", "timeline"):
        assert list(shown[name][0]) == list(told[name][0]), name
    assert {type(v) for v in shown["images"][0].values()} >= {str, int}
    names = {**JobSchema().fields, "manifest": None, "timeline": None}
    assert set(shown) == set(names) - {"archive", "notification"}
    assert set(shown["images"][0]) == {*ImageSchema().fields, "path", "thumbnail"}
    assert list(shown["cost"]) == ["amount", "unit", "source"]


def test_the_examples_events_are_the_ledgers(harness: Harness) -> None:
    job_id = job_states.ended(harness)
    ours = {event.name: set(event.detail) for event in harness.ledger.events(job_id)}

    for event in example()["timeline"]:
        assert set(event["detail"]) <= ours[event["event"]]


def test_the_examples_places_are_those_of_its_id() -> None:
    shown = example()
    place = folder(shown["id"])

    assert shown["images"][0]["path"] == f"{place}/0.png"
    assert shown["images"][0]["thumbnail"] == f"{place}/0.thumb.webp"
    assert shown["images"][0]["url"].endswith(f"/v1/jobs/{shown['id']}/images/0")
    tree = re.findall(r"(?m)^(\d{4}-\d\d-\d\d)/\n    (job_\w+)/$", PAGE)
    assert ["/".join(pair) for pair in tree] == [place]


def test_the_tree_lists_what_is_put(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(picture(), picture(form="JPEG")))

    listed = re.findall(r"(?m)^        (\S+)", PAGE[: PAGE.index("### The manifest")])
    assert [name.rpartition("/")[2] for name in sorted(archive_kit.files(harness))] == sorted(
        listed
    )
    assert job_id


# Figures -----------------------------------------------------------------------------------


def test_the_limits_are_the_codes(harness: Harness) -> None:
    settings = harness.runtime.settings
    limits = {row[0]: row[1] for row in cells("what")}

    assert limits["redirects"] == str(guarded_session.MAX_REDIRECTS)
    assert limits["its size, also once a content encoding is undone"].endswith(
        f": {settings.max_image_bytes}"
    )
    assert f": {settings.max_image_pixels};" in limits["its pixels"]
    assert limits["each side"] == f"at least {images.SMALLEST} pixels"
    formats = [name.replace("WEBP", "WebP") for name in images._FORMATS]
    assert limits["what its bytes are, whatever its headers say"] == (
        f"{', '.join(formats[:-1])} or {formats[-1]}"
    )
    assert f"at most {images.THUMBNAIL} pixels on its longer side" in TEXT


def test_the_time_for_a_download_is_the_setting(start: Callable[..., Harness]) -> None:
    seconds = start().runtime.settings.download_timeout_seconds

    assert f"`ORCHESTRATOR_DOWNLOAD_TIMEOUT_SECONDS`: {seconds:g} s" in PAGE


def test_the_threads_are_the_workers() -> None:
    app = (ROOT / "workers" / "app.py").read_text("utf-8")
    [threads] = re.findall(r"ARCHIVISTS, MESSENGERS = (\d+), \d+", app)
    [backlog] = re.findall(r"BACKLOG = (\d+)", app)
    said = f"decodes {images.DECODERS} images at once, downloads {threads} jobs' images at once"
    assert f"{said}, and lets {backlog} jobs wait" in TEXT


def test_what_is_said_of_errors_is_what_is_told(harness: Harness) -> None:
    said = [beginning for row in cells("what") for beginning in code(row[2] if row[2:] else "")]
    told = [why for _, why in FAILURES.values()]
    named = ("not an image", "the body", "it answered", "too large", "a placeholder", "a broken")
    for beginning in said:
        if beginning.startswith(named):
            assert [why for why in told if why.startswith(beginning)], beginning
    source_of = (ROOT / "orchestrator" / "archive" / "step.py").read_text("utf-8")
    source_of += (ROOT / "orchestrator" / "security" / "session.py").read_text("utf-8")
    for text in ("our storage", "no room for a download", "it did not end in time"):
        assert text in said
        assert text in source_of


def test_the_times_between_tries_are_the_codes() -> None:
    assert f"After {archive.FIRST:g} s, then twice as long each time" in TEXT
    assert f"up to {archive.LONGEST / 60:g} minutes" in TEXT
    assert f"every {archive.LONGEST / 60:g} minutes at most" in TEXT
    assert archive.IN_TIME == 60_000
    assert "a minute before the link dies, and when it does" in TEXT
    assert f"is tried for {archive.PATIENCE / 86_400_000:g} days" in TEXT
    assert f"the time of two downloads and {archive.MARGIN / 1000:g} s" in TEXT
    assert archive.LATE == 86_400_000
    assert "each has had its turn a day after it died" in TEXT


def test_images_at_risk_are_those_of_stats() -> None:
    assert f"may die within {RISK_HOURS:g} hours" in TEXT
    assert f"is taken to die after {DEFAULT_LINK_LIFETIME_MS / 3_600_000:g} hours" in TEXT


def test_pruning_is_when_beat_says(start: Callable[..., Harness]) -> None:
    app = (ROOT / "workers" / "app.py").read_text("utf-8")
    [(hour, minute)] = re.findall(r'PRUNE_AT = \{"hour": (\d+), "minute": (\d+)\}', app)

    assert f"daily at {int(hour):02}:{int(minute):02} UTC" in TEXT
    days = start().runtime.settings.retention_days
    assert f"`ORCHESTRATOR_RETENTION_DAYS`: {days:g}." in TEXT


# Tables ------------------------------------------------------------------------------------


def test_every_storage_is_listed() -> None:
    urls = [code(row[0])[0] for row in cells("URL")]

    assert {url.partition("://")[0] for url in urls} == {"file", *bucket.SCHEMES}
    assert [url for url in urls if url not in storage.ALLOWED] == []


def test_every_variable_that_we_read_ourselves_is_listed() -> None:
    listed = [code(row[0]) for row in cells("variable")]
    read = (ROOT / "orchestrator" / "archive" / "bucket.py").read_text("utf-8")

    for names in bucket._ENDPOINTS.values():
        assert list(names) in listed, "in this order"
    assert ["AWS_CA_BUNDLE"] in listed
    assert 'os.environ.get("AWS_CA_BUNDLE")' in read


def test_every_status_of_an_image_is_listed() -> None:
    rows = {int(row[0]): row[1] for row in cells("status")}

    assert set(rows) == set(ANSWERS) | {304, 503}
    assert f"a signed link that lives {LINK_SECONDS} s" in rows[302]


def test_every_status_of_an_archive_is_listed() -> None:
    rows = [code(row[0])[0] for row in cells("`archive.status`")]

    ours = set(FollowUpStatus) - {FollowUpStatus.WAITING, FollowUpStatus.GONE}
    assert set(rows) == {status.value for status in ours}


def test_every_setting_it_names_can_be_set() -> None:
    configuration = (ROOT / "docs" / "configuration.md").read_text("utf-8")

    for name in set(re.findall(r"ORCHESTRATOR_[A-Z_]+", PAGE)):
        assert f"| `{name}` |" in configuration, name


def test_every_file_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE)

    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_a_put_is_given_up_within_the_leases_spare_time() -> None:
    assert source.PUT_WITHIN * 1000 <= archive.MARGIN


# Commands ----------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_an_archive_is_verified_as_it_says(harness: Harness, tmp_path: Path) -> None:
    [command] = re.findall(r"(?m)^\$ (find .+)$", PAGE)
    gallery = Gallery(harness)
    jobs = [archived(harness, gallery.job(picture(n), picture(n + 1))) for n in range(3)]
    archived(harness, gallery.job(b"lost", expires=[0]))

    def verified() -> int:
        line = ["/bin/sh", "-c", command]
        return subprocess.run(line, cwd=tmp_path / "archive", check=False).returncode

    assert verified() == 0
    copy = harness.job(jobs[1]).images[1].copy
    assert copy is not None
    (tmp_path / "archive" / copy.path).write_bytes(b"rotten")
    assert verified() != 0
