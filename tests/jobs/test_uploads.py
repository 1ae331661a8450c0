"""Reference images that are handed over as files, from the caller to the provider."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.formparser import parse_form_data

from orchestrator.enqueuing import cancel_job, create_job
from orchestrator.jobs.model import Status, Step
from orchestrator.jobs.uploads import ImageFile, Upload, content_type, describe
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger import keys
from orchestrator.providers import BUILT_IN
from orchestrator.steps.submit import submit
from tests.support.cases import for_each
from tests.support.fakes import Answer, Harness, ReceivedRequest, answer
from tests.support.providers import (
    ACCEPTING_FILES,
    EXAMPLE_MODELS,
    EXAMPLE_REQUESTS,
    REFUSING_FILES,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
FILE = ImageFile("cat.png", PNG)
#: The example models of these providers take links only.
TAKING_LINKS = [
    name
    for name in REFUSING_FILES
    if "images" in BUILT_IN[name].models[EXAMPLE_MODELS[name]].options
]
MOST = 10 * 1024 * 1024
TASK = {"task_id": "task-1", "status": "queued", "progress": "0%", "error": None}
QUEUED = answer(200, TASK)
LATER = answer(429, {"code": "rate_limited", "message": "slow down"})
NO = answer(400, {"code": "bad_request", "message": "no"})


def placed(harness: Harness, **fields: object) -> str:
    request = {**EXAMPLE_REQUESTS[ACCEPTING_FILES[0]], **fields}
    return create_job(harness.runtime, request, scope="test", file=FILE).job.id


def form(asked: ReceivedRequest) -> tuple[dict[str, str], dict[str, FileStorage]]:
    """What a provider finds in a multipart request."""
    _, fields, files = parse_form_data(
        {
            "wsgi.input": BytesIO(asked.body),
            "CONTENT_LENGTH": str(len(asked.body)),
            "CONTENT_TYPE": asked.headers["content-type"],
        },
        stream_factory=lambda *_, **__: BytesIO(),
    )
    return dict(fields), dict(files)


# Handing it over -----------------------------------------------------------------------------


@for_each(
    ("content", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        (b"GIF89a", None),
        (b"%PDF-1.7", None),
        (b"<svg/>", None),
        (b"\x89PNG", None),
        (b"", None),
    ],
)
def test_a_file_is_known_by_its_first_bytes(content: bytes, kind: str | None) -> None:
    assert content_type(content) == kind


def test_what_is_known_of_a_file() -> None:
    assert describe(FILE, MOST) == Upload(
        "cat.png", "image/png", len(PNG), hashlib.sha256(PNG).hexdigest()
    )


def test_a_file_of_just_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    assert describe(FILE, len(PNG)).bytes == len(PNG)
    with pytest.raises(InvalidRequest, match=f"at most {len(PNG) - 1} bytes"):
        describe(FILE, len(PNG) - 1)


def test_a_file_that_is_no_image_is_refused() -> None:
    with pytest.raises(
        InvalidRequest, match=r'image_file must be .*PNG, JPEG or WebP .*; got "cv\.pdf"'
    ):
        describe(ImageFile("cv.pdf", b"%PDF-1.7"), MOST)


def test_an_odd_file_name_is_made_harmless() -> None:
    assert describe(ImageFile("a\r\n\0b.png", PNG), MOST).name == "ab.png"
    assert describe(ImageFile("\n", PNG), MOST).name == "image"
    assert len(describe(ImageFile("x" * 5000 + ".png", PNG), MOST).name) == 100


def test_a_file_is_read_from_this_machine(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)

    assert ImageFile.read(tmp_path / "cat.png") == FILE
    with pytest.raises(InvalidRequest, match=r"image_file must be .*No such file"):
        ImageFile.read(tmp_path / "dog.png")


@pytest.mark.parametrize("provider", REFUSING_FILES)
def test_a_provider_that_takes_no_files_refuses_one_by_name_without_a_public_url(
    start: Callable[..., Harness], provider: str
) -> None:
    harness = start(ORCHESTRATOR_PUBLIC_URL=None)
    with pytest.raises(InvalidRequest, match=r"image_file must be .* accepts only links in images"):
        create_job(harness.runtime, EXAMPLE_REQUESTS[provider], scope="test", file=FILE)

    assert harness.redis.keys() == []


@pytest.mark.parametrize("provider", TAKING_LINKS)
def test_such_a_provider_gets_a_link_in_its_own_form(
    start: Callable[..., Harness], tmp_path: Path, provider: str
) -> None:
    harness = start(ORCHESTRATOR_ARCHIVE_URL=tmp_path.as_uri())
    asked = EXAMPLE_REQUESTS[provider]

    results = [
        create_job(harness.runtime, asked, scope="test", key="order-1", file=FILE) for _ in range(2)
    ]

    assert [each.replayed for each in results] == [False, True]
    job = results[0].job
    assert job.request.upload is None
    [link] = job.request.options["images"]
    name = link.rpartition("/")[2]
    assert link.startswith("https://hooks.example.com/references/")
    [stored] = tmp_path.rglob(name)
    assert stored.read_bytes() == FILE.content
    body = harness.runtime.providers[provider].body(job.request)
    assert link in str(body)


def test_a_refused_request_stores_no_file(start: Callable[..., Harness], tmp_path: Path) -> None:
    harness = start(ORCHESTRATOR_ARCHIVE_URL=tmp_path.as_uri())
    asked = {**EXAMPLE_REQUESTS["hiapi"], "aspect_ratio": "9:99"}
    with pytest.raises(InvalidRequest, match="aspect_ratio"):
        create_job(harness.runtime, asked, scope="test", file=FILE)

    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("links", [1, 2])
def test_a_file_and_links_together_are_refused(harness: Harness, links: int) -> None:
    with pytest.raises(InvalidRequest, match="not two"):
        placed(harness, images=["https://e.example/a.png"] * links)


# Sending it on -------------------------------------------------------------------------------


def test_the_provider_gets_the_file_and_the_fields_in_one_form(harness: Harness) -> None:
    harness.provider.answers(QUEUED)
    job_id = placed(harness, n=2, prompt='A "cat"\n\u00e9')

    submit(harness.runtime, job_id)

    [asked] = harness.provider.requests
    fields, files = form(asked)
    assert fields == {
        "model": "NanoBanana",
        "prompt": 'A "cat"\n\u00e9',
        "n": "2",
        "task_type": "image2image",
        "response_format": "url",
    }
    assert list(files) == ["image"]
    assert files["image"].stream.read() == PNG
    assert (files["image"].filename, files["image"].mimetype) == ("cat.png", "image/png")
    assert harness.job(job_id).status is Status.RUNNING


def kept(harness: Harness, job_id: str) -> bool:
    return harness.ledger.uploads.get(job_id) is not None


@pytest.mark.parametrize(
    ("told", "status", "stays"),
    [
        (QUEUED, Status.RUNNING, False),
        (answer(200, {**TASK, "status": "failed", "error": "no"}), Status.FAILED, False),
        (NO, Status.FAILED, False),
        (LATER, Status.QUEUED, True),
        (Answer(502, b"<html>"), Status.UNCONFIRMED, True),
    ],
)
def test_the_file_is_kept_until_the_submit_is_settled(
    harness: Harness, told: Answer, status: Status, stays: bool
) -> None:
    harness.provider.answers(told)
    job_id = placed(harness)
    assert kept(harness, job_id)

    submit(harness.runtime, job_id)

    assert harness.job(job_id).status is status
    assert kept(harness, job_id) is stays


def test_the_file_is_dropped_when_an_unconfirmed_attempt_is_given_up(harness: Harness) -> None:
    harness.provider.answers(Answer(502, b"<html>"))
    job_id = placed(harness)
    submit(harness.runtime, job_id)

    submit(harness.runtime, job_id)

    assert harness.job(job_id).status is Status.FAILED
    assert not kept(harness, job_id)


def test_a_second_try_sends_the_file_again(harness: Harness) -> None:
    harness.provider.answers(LATER, QUEUED)
    job_id = placed(harness)
    submit(harness.runtime, job_id)
    harness.clock.forward(harness.seconds_until_due(job_id) or 0)

    submit(harness.runtime, job_id)

    first, second = (form(asked)[1]["image"].stream.read() for asked in harness.provider.requests)
    assert first == second == PNG


def test_a_job_whose_file_is_gone_fails_without_being_sent(harness: Harness) -> None:
    job_id = placed(harness)
    harness.redis.delete(keys.upload(job_id))

    submit(harness.runtime, job_id)

    job = harness.job(job_id)
    assert job.error is not None
    assert (job.status, job.error.code) == (Status.FAILED, "invalid_request")
    assert "the file of the job is gone" in job.error.message
    assert harness.provider.requests == []


def test_the_size_limit_is_a_setting(start: Callable[..., Harness]) -> None:
    harness = start(ORCHESTRATOR_MAX_UPLOAD_BYTES="100")

    with pytest.raises(InvalidRequest, match="at most 100 bytes"):
        placed(harness)


def test_the_file_of_a_cancelled_job_is_dropped(harness: Harness) -> None:
    job_id = placed(harness)

    assert cancel_job(harness.runtime, job_id, actor="tests")
    assert not kept(harness, job_id)


def test_a_job_that_is_under_way_keeps_its_file(harness: Harness) -> None:
    job_id = placed(harness)
    harness.ledger.claim(job_id, Step.SUBMIT, now=harness.clock(), lease_ms=1000)

    assert not cancel_job(harness.runtime, job_id, actor="tests")
    assert kept(harness, job_id)
