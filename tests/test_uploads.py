"""Reference images that are handed over as files, from the caller to the provider."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.formparser import parse_form_data

from orchestrator.enqueue import call_off, place
from orchestrator.jobs import Status, Step, Upload
from orchestrator.ledger import keys
from orchestrator.submit import submit
from orchestrator.uploads import ImageFile, content_type, described
from orchestrator.validation import InvalidRequest
from tests.fakes import REQUESTS, Answer, Asked, World, answer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
FILE = ImageFile("cat.png", PNG)
MOST = 10 * 1024 * 1024
TASK = {"task_id": "task-1", "status": "queued", "progress": "0%", "error": None}
QUEUED = answer(200, TASK)
LATER = answer(429, {"code": "rate_limited", "message": "slow down"})
NO = answer(400, {"code": "bad_request", "message": "no"})


def placed(world: World, file: ImageFile = FILE, **fields: object) -> str:
    request = {**REQUESTS["uniall"], **fields}
    return place(world.runtime, request, scope="test", file=file).job.id


def form(asked: Asked) -> tuple[dict[str, str], dict[str, FileStorage]]:
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


@pytest.mark.parametrize(
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
    assert described(FILE, MOST) == Upload(
        "cat.png", "image/png", len(PNG), hashlib.sha256(PNG).hexdigest()
    )


def test_a_file_of_just_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    assert described(FILE, len(PNG)).bytes == len(PNG)
    with pytest.raises(InvalidRequest, match=f"at most {len(PNG) - 1} bytes"):
        described(FILE, len(PNG) - 1)


def test_a_file_that_is_no_image_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r'image_file: "cv.pdf" .* PNG, JPEG or WebP'):
        described(ImageFile("cv.pdf", b"%PDF-1.7"), MOST)


def test_an_odd_file_name_is_made_harmless() -> None:
    assert described(ImageFile("a\r\n\0b.png", PNG), MOST).name == "ab.png"
    assert described(ImageFile("\n", PNG), MOST).name == "image"
    assert len(described(ImageFile("x" * 5000 + ".png", PNG), MOST).name) == 100


def test_a_file_is_read_from_this_machine(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)

    assert ImageFile.read(tmp_path / "cat.png") == FILE
    with pytest.raises(InvalidRequest, match=r"image_file: .*No such file"):
        ImageFile.read(tmp_path / "dog.png")


@pytest.mark.parametrize("provider", ["hiapi", "evolink", "aigptimage"])
def test_a_provider_that_takes_no_files_refuses_one_by_name(world: World, provider: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"image_file: .* takes no files, only links in images"
    ):
        place(world.runtime, REQUESTS[provider], scope="test", file=FILE)

    assert world.redis.keys() == []


@pytest.mark.parametrize("links", [1, 2])
def test_a_file_and_links_together_are_refused(world: World, links: int) -> None:
    with pytest.raises(InvalidRequest, match="not two"):
        placed(world, images=["https://e.example/a.png"] * links)


# Sending it on -------------------------------------------------------------------------------


def test_the_provider_gets_the_file_and_the_fields_in_one_form(world: World) -> None:
    world.provider.answers(QUEUED)
    job_id = placed(world, n=2, prompt='A "cat"\n\u00e9')

    submit(world.runtime, job_id)

    [asked] = world.provider.asked
    fields, files = form(asked)
    assert fields == {
        "model": "NanoBanana2-1K",
        "prompt": 'A "cat"\n\u00e9',
        "n": "2",
        "task_type": "image2image",
        "response_format": "url",
    }
    assert list(files) == ["image"]
    assert files["image"].stream.read() == PNG
    assert (files["image"].filename, files["image"].mimetype) == ("cat.png", "image/png")
    assert world.job(job_id).status is Status.RUNNING


def kept(world: World, job_id: str) -> bool:
    return world.ledger.upload(job_id) is not None


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
    world: World, told: Answer, status: Status, stays: bool
) -> None:
    world.provider.answers(told)
    job_id = placed(world)
    assert kept(world, job_id)

    submit(world.runtime, job_id)

    assert world.job(job_id).status is status
    assert kept(world, job_id) is stays


def test_the_file_is_dropped_when_an_unconfirmed_attempt_is_given_up(world: World) -> None:
    world.provider.answers(Answer(502, b"<html>"))
    job_id = placed(world)
    submit(world.runtime, job_id)

    submit(world.runtime, job_id)

    assert world.job(job_id).status is Status.FAILED
    assert not kept(world, job_id)


def test_a_second_try_sends_the_file_again(world: World) -> None:
    world.provider.answers(LATER, QUEUED)
    job_id = placed(world)
    submit(world.runtime, job_id)
    world.clock.forward(world.next_look(job_id) or 0)

    submit(world.runtime, job_id)

    first, second = (form(asked)[1]["image"].stream.read() for asked in world.provider.asked)
    assert first == second == PNG


def test_a_job_whose_file_is_gone_fails_without_being_sent(world: World) -> None:
    job_id = placed(world)
    world.redis.delete(keys.upload(job_id))

    submit(world.runtime, job_id)

    job = world.job(job_id)
    assert job.error is not None
    assert (job.status, job.error.code) == (Status.FAILED, "invalid_request")
    assert "the file that was handed over with the job is gone" in job.error.message
    assert world.provider.asked == []


def test_the_size_limit_is_a_setting(start: Callable[..., World]) -> None:
    world = start(ORCHESTRATOR_MAX_UPLOAD_BYTES="100")

    with pytest.raises(InvalidRequest, match="at most 100 bytes"):
        placed(world)


def test_the_file_of_a_cancelled_job_is_dropped(world: World) -> None:
    job_id = placed(world)

    assert call_off(world.runtime, job_id)
    assert not kept(world, job_id)


def test_a_job_that_is_under_way_keeps_its_file(world: World) -> None:
    job_id = placed(world)
    world.ledger.claim(job_id, Step.SUBMIT, now=world.clock(), lease_ms=1000)

    assert not call_off(world.runtime, job_id)
    assert kept(world, job_id)
