"""job.json: its path, its content, and the secrets that it must not contain."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from ulid import ULID

from orchestrator.jobs.model import Cost, Image, Outcome
from orchestrator.jsonio import NotJson
from orchestrator.ledger.identifiers import folder
from orchestrator.operations.manifest import VERSION, copies, manifest, path
from orchestrator.steps.poll import poll
from orchestrator.steps.submit import submit
from tests.support import archive_kit, job_states
from tests.support.archive_kit import LINK_LIFETIME_MS, Gallery, archived, picture
from tests.support.cases import for_each
from tests.support.fakes import (
    API_KEY,
    NOON,
    PUBLIC_URL,
    SECRET_KEY,
    TENANT,
    Answer,
    Harness,
    answer,
)


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    return archive_kit.harness(start, tmp_path)


def made_at(moment: datetime) -> str:
    return f"job_{str(ULID.from_datetime(moment)).lower()}07"


# Path --------------------------------------------------------------------------------------


@pytest.fixture(params=["UTC", "Pacific/Auckland", "Pacific/Honolulu"])
def _anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    os.environ.pop("TZ")
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_anywhere")
def test_the_folder_of_a_job_is_the_utc_day_of_its_id() -> None:
    last = made_at(datetime(2026, 11, 20, 23, 59, 59, 999_000, UTC))
    first = made_at(datetime(2026, 11, 21, 0, 0, 0, 0, UTC))

    assert folder(last) == f"2026-11-20/{last}"
    assert folder(first) == f"2026-11-21/{first}"
    assert path(first) == f"2026-11-21/{first}/job.json"


def test_the_folder_needs_nothing_but_the_id(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(picture()))
    known = folder(job_id)
    harness.redis.flushall()
    harness.clock.forward(90 * 86_400)

    assert folder(job_id) == known
    assert copies(harness.runtime.storage.get(path(job_id)))[0]["path"] == f"{known}/0.png"


# Content -----------------------------------------------------------------------------------


def test_a_manifest_has_every_fact_of_its_job(harness: Harness) -> None:
    gallery = Gallery(harness)
    [good] = gallery.add_links(picture())
    bad = "ftp://cdn.example/1.png"  # given up at once
    images = (Image(good, NOON + LINK_LIFETIME_MS), Image(bad, NOON))
    outcome = Outcome.succeeded(images, Cost(1.5, "credits"))
    fields = {"prompt": "A red cube", "aspect_ratio": "16:9", "metadata": {"order": 7}}
    job_id = job_states.ended(harness, outcome, "evolink", **fields)
    archived(harness, job_id)
    kept = harness.job(job_id).images[0].copy
    assert kept is not None

    document = archive_kit.manifest(harness, job_id)
    timeline = document.pop("timeline")

    assert document == {
        "manifest": VERSION,
        "id": job_id,
        "status": "succeeded",
        "tenant": TENANT,
        "batch": None,
        "retry_of": None,
        "retried_as": None,
        "provider": "evolink",
        "model": "nano-banana-2-lite",
        "request": {"prompt": "A red cube", "aspect_ratio": "16:9"},
        "attempts": [
            {
                "number": 1,
                "provider": "evolink",
                "model": "nano-banana-2-lite",
                "task_id": job_states.task_of(job_id),
                "submitted_at": "2026-11-30T00:53:20.000Z",
            }
        ],
        "images": [
            {
                "url": f"{PUBLIC_URL}/v1/jobs/{job_id}/images/0",
                "source_url": good,
                "expires_at": "2026-12-01T00:53:20.000Z",
                "archived_at": "2026-11-30T00:53:20.000Z",
                "sha256": kept.sha256,
                "bytes": len(picture()),
                "width": 96,
                "height": 64,
                "content_type": "image/png",
                "checked": True,
                "check_error": None,
                "error": None,
                "path": f"{folder(job_id)}/0.png",
                "thumbnail": f"{folder(job_id)}/0.thumb.webp",
            },
            {
                "url": f"{PUBLIC_URL}/v1/jobs/{job_id}/images/1",
                "source_url": bad,
                "expires_at": "2026-11-30T00:53:20.000Z",
                "archived_at": None,
                "sha256": None,
                "bytes": None,
                "width": None,
                "height": None,
                "content_type": None,
                "checked": None,
                "check_error": None,
                "error": "the link is not an http(s) URL",
                "path": None,
                "thumbnail": None,
            },
        ],
        "fallbacks": [],
        "late_images": [],
        "error": None,
        "cost": {"amount": 1.5, "unit": "credits", "source": "reported"},
        "metadata": {"order": 7},
        "deadline_at": "2026-11-30T01:53:20.000Z",
        "created_at": "2026-11-30T00:53:20.000Z",
        "updated_at": "2026-11-30T00:53:20.000Z",
        "settled_at": "2026-11-30T00:53:20.000Z",
        "settled_by": "callback",
    }
    assert [event["event"] for event in timeline] == [
        "created",
        "submitting",
        "accepted",
        "settled",
    ]
    assert all(event["at"] == "2026-11-30T00:53:20.000Z" for event in timeline)
    assert timeline[2]["detail"]["task_id"] == job_states.task_of(job_id)


def test_the_timeline_of_a_manifest_has_the_failed_tries(harness: Harness) -> None:
    gallery = Gallery(harness)
    job_id = archived(harness, gallery.job(Answer(503)))
    gallery.pages["/image-0"] = picture()
    archive_kit.again(harness, job_id)

    timeline = archive_kit.manifest(harness, job_id)["timeline"]

    assert timeline[-1] == {
        "at": "2026-11-30T00:53:20.000Z",
        "event": "archive_failed",
        "detail": {"try": 1, "reason": "it answered 503"},
    }


def test_without_a_public_url_links_are_paths(
    start: Callable[..., Harness], tmp_path: Path
) -> None:
    harness = archive_kit.harness(start, tmp_path, ORCHESTRATOR_PUBLIC_URL="")
    job_id = archived(harness, Gallery(harness).job(picture()))

    assert (
        archive_kit.manifest(harness, job_id)["images"][0]["url"] == f"/v1/jobs/{job_id}/images/0"
    )


def test_a_manifest_is_plain_json(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(picture(), prompt="Löwe 🦁 \u0000 \u2028"))
    [content] = [c for name, c in archive_kit.files(harness).items() if name.endswith("job.json")]

    assert orjson.loads(content)["request"]["prompt"] == "Löwe 🦁 \u0000 \u2028"
    assert job_id.encode() in content


# Secrets -----------------------------------------------------------------------------------


@pytest.fixture
def secretive(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    return archive_kit.harness(
        start,
        tmp_path,
        ORCHESTRATOR_NOTIFY_SECRET="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        HIAPI_WEBHOOK_SECRET="a-secret-of-hiapis",
        HIAPI_POLL_SECONDS="1",
    )


def test_a_manifest_has_no_secret_of_ours_or_of_the_caller(secretive: Harness) -> None:
    harness, notify = secretive, "https://caller.example/told?token=sesame"
    harness.provider.answers(answer(200, {"data": {"taskId": "task-1"}}))
    job_id = harness.enqueue("hiapi", notify_url=notify)
    submit(harness.runtime, job_id)
    [sent] = harness.provider.requests
    assert API_KEY in sent.headers["authorization"]
    [token] = [part for part in sent.body.decode().split('"') if "/callbacks/" in part]
    [link] = Gallery(harness).add_links(picture())
    task = {"taskId": "task-1", "status": "success", "output": [{"url": link}]}
    harness.provider.answers(answer(200, {"data": task}))
    harness.clock.forward(60)
    poll(harness.runtime, job_id)
    harness.provider.answers(Answer(200, picture()))

    archived(harness, job_id)

    [content] = [c for name, c in archive_kit.files(harness).items() if name.endswith("job.json")]
    hidden = [API_KEY, SECRET_KEY, "sesame", "api-key-of-the-tests", "/callbacks/", "whsec_"]
    hidden += ["a-secret-of-hiapis", token.rpartition("/")[2], "caller.example"]
    assert [secret for secret in hidden if secret.encode() in content] == []
    assert b'"notification"' not in content, (
        "a notification continues after the manifest was written"
    )
    assert b'"archive"' not in content


# Reading it --------------------------------------------------------------------------------


def test_a_written_manifest_can_be_read(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(picture()))
    job = harness.job(job_id)

    [listed] = copies(manifest(job, harness.ledger.events(job_id), None))

    assert job.images[0].copy is not None
    assert listed["path"] == job.images[0].copy.path
    assert listed["thumbnail"] == job.images[0].copy.thumbnail
    assert listed["sha256"] == job.images[0].copy.sha256


@for_each("content", [b"", b"\x00", b"{", b"[]", b"{}", b'{"images": 7}', b"null"])
def test_content_that_is_not_a_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(NotJson):
        copies(content)
