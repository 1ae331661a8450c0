"""`POST /v1/jobs` as a form: the request, and a reference image as a file."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import orjson
import pytest
from urllib3.filepost import encode_multipart_formdata
from werkzeug.test import TestResponse

from orchestrator.api import MAX_BODY_BYTES
from tests.api.conftest import Api, Open
from tests.jobs.test_uploads import PNG
from tests.support.providers import ACCEPTING_FILES, EXAMPLE_REQUESTS

JOB = orjson.dumps(EXAMPLE_REQUESTS[ACCEPTING_FILES[0]]).decode()


def send(api: Api, key: str | None = None, **parts: Any) -> TestResponse:
    headers = {} if key is None else {"Idempotency-Key": key}
    kind = "multipart/form-data"
    return api.post("/v1/jobs", data=parts, content_type=kind, headers=headers)


def send_bytes(api: Api, job: bytes = JOB.encode(), file: bytes = PNG) -> TestResponse:
    """Send a form of any size. The test client keeps a large form of its own in an open file."""
    form, kind = encode_multipart_formdata({"job": job, "image_file": ("cat.png", file)})
    return api.post("/v1/jobs", data=form, content_type=kind)


def file(content: bytes = PNG, name: str = "cat.png") -> tuple[BytesIO, str]:
    return BytesIO(content), name


def refusal(response: TestResponse) -> dict[str, str]:
    assert (response.status_code, response.mimetype) == (422, "application/problem+json"), (
        response.text
    )
    assert response.json is not None
    error: dict[str, str] = response.json["errors"][0]
    return error


def test_a_form_makes_a_job_that_shows_its_file(api: Api) -> None:
    response = send(api, job=JOB, image_file=file())

    assert response.status_code == 202
    assert response.json is not None
    shown = response.json["request"]["image_file"]
    assert (shown["name"], shown["content_type"], shown["bytes"]) == (
        "cat.png",
        "image/png",
        len(PNG),
    )
    assert api.harness.ledger.uploads.get(response.json["id"]) == PNG


def test_the_request_may_come_as_a_json_part(api: Api) -> None:
    job = (BytesIO(JOB.encode()), "job.json", "application/json")

    assert send(api, job=job, image_file=file()).status_code == 202


def test_a_form_that_is_sent_twice_is_one_job(api: Api) -> None:
    first, again = (send(api, "order-1", job=JOB, image_file=file()) for _ in range(2))

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json is not None
    assert again.json is not None
    assert first.json["id"] == again.json["id"]


def test_another_file_under_the_same_key_is_refused(api: Api) -> None:
    send(api, "order-1", job=JOB, image_file=file())

    response = send(api, "order-1", job=JOB, image_file=file(PNG + b"!"))

    assert response.status_code == 422


def test_a_file_larger_than_a_request_may_be_is_taken_up_to_its_own_limit(open_api: Open) -> None:
    api = open_api(ORCHESTRATOR_MAX_UPLOAD_BYTES=str(2 * MAX_BODY_BYTES))

    def sized(size: int) -> TestResponse:
        return send_bytes(api, file=PNG.ljust(size, b"x"))

    assert sized(2 * MAX_BODY_BYTES).status_code == 202
    assert refusal(sized(2 * MAX_BODY_BYTES + 1))["field"] == "image_file"
    assert sized(3 * MAX_BODY_BYTES).status_code == 413


@pytest.mark.parametrize(
    ("parts", "field", "allowed"),
    [
        ({"job": JOB}, "image_file", "one file, as the form part image_file"),
        ({"job": JOB, "image_file": "text"}, "image_file", "one file"),
        ({"job": JOB, "image_file": file(), "extra": "1"}, "extra", "image_file, job"),
        ({"job": JOB, "image_file": file(b"%PDF", "a.pdf")}, "image_file", "PNG, JPEG or WebP"),
        ({"job": "[]", "image_file": file()}, "body", "a JSON object"),
    ],
)
def test_a_bad_form_is_refused_by_name(
    api: Api, parts: dict[str, Any], field: str, allowed: str
) -> None:
    error = refusal(send(api, **parts))

    assert error["field"] == field
    assert allowed in error["allowed"]
    assert api.harness.redis.keys() == []


def test_two_files_are_refused(api: Api) -> None:
    error = refusal(send(api, job=JOB, image_file=[file(), file()]))

    assert (error["field"], error["value"]) == ("image_file", "2 files")


@pytest.mark.parametrize(
    ("job", "count"), [(None, 0), ([JOB, JOB.replace("red", "blue")], 2), ([JOB, "json"], 2)]
)
def test_a_form_has_one_request(api: Api, job: Any, count: int) -> None:
    if isinstance(job, list):
        job = [(BytesIO(JOB.encode()), "job.json") if each == "json" else each for each in job]
    job_part = {} if job is None else {"job": job}

    error = refusal(send(api, **job_part, image_file=file()))

    assert (error["field"], error["value"]) == ("job", f"{count} parts")


@pytest.mark.parametrize("job", [b"", b"{", b"\xff"])
def test_a_request_that_is_no_json_is_400(api: Api, job: bytes) -> None:
    response = send(api, job=(BytesIO(job), "job.json"), image_file=file())

    assert response.status_code == 400
    assert "not JSON" in (response.json or {})["detail"]


def test_a_request_as_text_that_is_not_utf8_is_400(api: Api) -> None:
    response = send_bytes(api, JOB.encode().replace(b"red", b"r\xff"))

    assert response.status_code == 400
    assert "not JSON" in (response.json or {})["detail"]


def test_a_request_in_a_form_may_be_as_long_as_one_without(api: Api) -> None:
    long = JOB.encode().ljust(MAX_BODY_BYTES)

    assert send_bytes(api, long).status_code == 202
    assert send_bytes(api, long + b" ").status_code == 413


def test_a_form_that_is_cut_off_is_refused(api: Api) -> None:
    kind = "multipart/form-data; boundary=x"
    cut = b'--x\r\nContent-Disposition: form-data; name="image_file"; filename="a"\r\n\r\nabc'

    response = api.post("/v1/jobs", data=cut, content_type=kind)

    assert response.status_code in (400, 422)
    assert api.harness.redis.keys() == []
