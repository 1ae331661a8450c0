"""`GET /v1/jobs/{id}/images/{n}`: our copy, wherever it is, and what is said when there is none."""

from __future__ import annotations

import errno
import io
import os
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import requests
from PIL import Image as Pillow
from werkzeug.test import TestResponse

from orchestrator.api import images as images_api
from orchestrator.api.images import (
    CACHE_SECONDS,
    LINK_SECONDS,
    MAX_FETCHES,
    RETRY_AFTER_SECONDS,
)
from orchestrator.api.request_ids import HEADER
from orchestrator.jobs.model import Image, Outcome
from orchestrator.ledger import Ledger, identifiers, keys
from orchestrator.operations import image_copies
from orchestrator.operations.manifest import path
from orchestrator.storage import thumbnails
from orchestrator.storage.storage import Storage, StorageError
from tests.api.conftest import Api
from tests.storage.servers import KEY, SECRET, bucket_client, moto
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, LinkAnswer, archived, ended, picture
from tests.support.fakes import NOON, Answer, Harness, ReceivedRequest
from tests.support.web import WebApp

SIZE = len(picture())
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


@pytest.fixture
def api(start: Callable[..., Harness], tmp_path: Path) -> Api:
    harness = archive_kit.harness(start, tmp_path)
    return Api(harness, WebApp(harness.runtime))


@pytest.fixture
def kept(api: Api) -> str:
    """A job whose one image is archived; its id."""
    return archived(api.harness, Gallery(api.harness).job(picture()))


def get(api: Api, job_id: str, index: object = 0, **headers: str) -> TestResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    client = api.app.test_client()
    path = f"/v1/jobs/{job_id}/images/{index}"
    return client.get(path, headers={**api.headers, **sent}, buffered=True)


def thumbnail(api: Api, job_id: str, **headers: str) -> TestResponse:
    return get(api, job_id, "0/thumbnail", **headers)


def forgotten(api: Api, job_id: str) -> str:
    api.harness.redis.delete(keys.job(job_id), keys.events(job_id))
    return job_id


# Before it is archived ---------------------------------------------------------------------


def test_until_it_is_archived_an_image_comes_from_the_provider(api: Api) -> None:
    job_id = Gallery(api.harness).job(picture())

    response = get(api, job_id)

    assert (response.status_code, response.mimetype, response.data) == (200, "image/png", picture())
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Length"] == str(SIZE)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Location" not in response.headers
    [request] = api.harness.provider.requests
    assert "authorization" not in request.headers
    assert archive_kit.files(api.harness) == {}, "no temporary file has a name"


def test_a_file_that_is_no_image_is_passed_on_as_an_attachment(api: Api) -> None:
    job_id = Gallery(api.harness).job(Answer(200, SVG, {"Content-Type": "image/png"}))

    response = get(api, job_id)

    assert (response.status_code, response.mimetype, response.data) == (200, "image/svg+xml", SVG)
    name = f'attachment; filename="{job_id}-0.svg"'
    assert response.headers["Content-Disposition"] == name
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Answer(503), "its link fails: it answered 503"),
        (Answer(404), "its link fails: it answered 404"),
        (None, "its link fails: the connection was closed without an answer"),
        (Answer(200, b"<html>Log in"), "its link gives an error page: HTML: <html>Log in"),
        (picture()[:-60], "its link gives truncated: the end of the PNG file is missing"),
        (bytes(4_000_001), "its link fails: the body has more than 4000000 bytes"),
        (
            Answer(302, b"", {"Location": "http://169.254.169.254/latest/meta-data/"}),
            "its link fails: a metadata address is not allowed",
        ),
    ],
)
def test_a_link_that_gives_no_image_is_a_503(
    start: Callable[..., Harness], tmp_path: Path, page: LinkAnswer, reason: str
) -> None:
    harness = archive_kit.harness(start, tmp_path, ORCHESTRATOR_MAX_IMAGE_BYTES="4000000")
    api = Api(harness, WebApp(harness.runtime))
    response = get(api, Gallery(harness).job(page))

    assert (response.status_code, response.mimetype) == (503, "application/problem+json")
    assert response.json is not None
    assert response.json["detail"] == f"the image is not archived yet, and {reason}"
    assert response.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", ""]
)
def test_nobody_is_led_to_a_link_that_the_guard_refuses(api: Api, url: str) -> None:
    response = get(api, job_states.ended(api.harness, Outcome.succeeded((Image(url),))))

    assert (response.status_code, "Location" in response.headers) == (410, False)


def test_few_images_are_fetched_for_callers_at_once(api: Api) -> None:
    arrived, go = threading.Semaphore(0), threading.Event()

    def hold(_: ReceivedRequest) -> Answer:
        arrived.release()
        assert go.wait(60)
        return Answer(200, picture())

    job_id = Gallery(api.harness).job(hold)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(get(api, job_id).status_code))
        for _ in range(MAX_FETCHES)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert arrived.acquire(timeout=60)

    try:
        refused = get(api, job_id)
    finally:
        go.set()
        for thread in threads:
            thread.join(60)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, str(RETRY_AFTER_SECONDS))
    assert statuses == [200] * MAX_FETCHES
    assert get(api, job_id).status_code == 200, "a place is free again"


def test_a_disk_that_is_full_is_a_503(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_copies, "MAX_MEMORY_BYTES", 1)
    (tmp_path / "data").write_text("a file in the folder's place")

    response = get(api, Gallery(api.harness).job(picture()))

    assert response.status_code == 503
    assert str(tmp_path) not in response.text


def test_there_is_no_thumbnail_yet(api: Api) -> None:
    response = thumbnail(api, Gallery(api.harness).job(picture()))

    assert (response.status_code, response.mimetype) == (404, "application/problem+json")
    assert response.json is not None
    assert "until the image is archived" in response.json["detail"]


def test_an_image_that_is_tried_again_is_still_at_the_provider(api: Api) -> None:
    gallery = Gallery(api.harness)
    job_id = archived(api.harness, gallery.job(Answer(503)))
    gallery.pages["/image-0"] = picture()

    assert get(api, job_id).data == picture()


# From a folder -----------------------------------------------------------------------------


def test_an_archived_image_is_given_out(api: Api, kept: str) -> None:
    response = get(api, kept)

    assert (response.status_code, response.mimetype, response.data) == (200, "image/png", picture())
    [image] = api.harness.job(kept).images
    assert image.copy is not None
    assert response.headers["ETag"] == f'"{image.copy.sha256}"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Length"] == str(SIZE)
    cached = response.headers["Cache-Control"].split(", ")
    assert sorted(cached) == ["immutable", f"max-age={CACHE_SECONDS}", "private"]


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "AVIF"])
def test_each_kind_has_its_own_content_type(api: Api, form: str) -> None:
    job_id = archived(api.harness, Gallery(api.harness).job(picture(form=form)))

    assert get(api, job_id).mimetype == f"image/{form.lower()}"


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_is_not_checked_is_given_out_as_an_attachment(api: Api, gone: bool) -> None:
    job_id = archived(api.harness, Gallery(api.harness).job(SVG))
    shown: Any = api.get(f"/v1/jobs/{job_id}").json
    if gone:
        forgotten(api, job_id)

    response, small = get(api, job_id), thumbnail(api, job_id)

    assert (response.status_code, response.mimetype, response.data) == (200, "image/svg+xml", SVG)
    assert response.headers["Content-Disposition"] == 'attachment; filename="0.svg"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert small.status_code == 404
    assert small.json is not None
    reason = "not a PNG, JPEG, WebP, GIF or AVIF image: SVG"
    assert small.json["detail"] == f"the file has no thumbnail: {reason}"
    [image] = shown["images"]
    assert (image["checked"], image["check_error"]) == (False, reason)
    assert (image["width"], image["height"]) == (None, None)


def test_a_job_says_that_its_image_is_checked(api: Api, kept: str) -> None:
    waiting = Gallery(api.harness).job(picture())
    for job_id, checked in ((kept, True), (waiting, None)):
        shown: Any = api.get(f"/v1/jobs/{job_id}").json
        assert shown["images"][0]["checked"] is checked
        assert shown["images"][0]["check_error"] is None
    assert "Content-Disposition" not in get(api, kept).headers


def test_each_image_of_a_job_has_its_number(api: Api) -> None:
    job_id = archived(api.harness, Gallery(api.harness).job(*map(picture, range(3))))

    assert [get(api, job_id, number).data for number in range(3)] == [*map(picture, range(3))]


def test_the_thumbnail_is_a_small_webp(api: Api) -> None:
    job_id = archived(api.harness, Gallery(api.harness).job(picture(size=(1024, 512))))

    response = thumbnail(api, job_id)

    assert (response.status_code, response.mimetype) == (200, "image/webp")
    assert Pillow.open(io.BytesIO(response.data)).size == (256, 128)
    assert response.headers["ETag"] != get(api, job_id).headers["ETag"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_thumbnail_is_made_once(api: Api, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    assert "0.thumb.webp" not in names(api)

    first, second = thumbnail(api, kept), thumbnail(api, kept)

    assert (first.status_code, first.data) == (200, second.data)
    assert [r.headers["ETag"] for r in (first, second)] == [first.headers["ETag"]] * 2
    assert (len(made), "0.thumb.webp" in names(api)) == (1, True)


def test_an_image_that_cannot_be_decoded_is_tried_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = picture()
    at = content.index(b"IDAT") + 4
    length = int.from_bytes(content[at - 8 : at - 4], "big")
    wrong = b"IDAT" + content[at : at + 2] + bytes(length - 2)
    content = content[: at - 4] + wrong + zlib.crc32(wrong).to_bytes(4, "big") + picture()[-12:]
    job_id, made = archived(api.harness, Gallery(api.harness).job(content)), counted(monkeypatch)

    for _ in range(2):
        response = thumbnail(api, job_id)
        assert response.status_code == 404
        assert response.json is not None
        assert "has no thumbnail: " in response.json["detail"]
    assert len(made) == 1
    assert get(api, job_id).data == content


def test_a_thumbnail_that_cannot_be_stored_is_given_out(
    api: Api, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Web may have the right to read only."""

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("Permission denied")

    monkeypatch.setattr(api.harness.runtime.storage, "put", refuse)

    assert thumbnail(api, kept).data[8:12] == b"WEBP"


def test_while_other_images_are_decoded_a_thumbnail_waits(
    api: Api, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "DECODER_WAIT_SECONDS", 0)
    with thumbnails._decoding, thumbnails._decoding:
        response = thumbnail(api, kept)

    assert response.status_code == 503
    assert response.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
    assert thumbnail(api, kept).status_code == 200


def test_a_removed_image_has_no_thumbnail(api: Api, kept: str, tmp_path: Path) -> None:
    (tmp_path / "archive" / path(kept)).with_name("0.png").unlink()

    assert thumbnail(api, kept).status_code == 404


def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Record the decoded images."""
    made: list[object] = []

    def counting(file: BinaryIO, *, max_pixels: int) -> bytes:
        made.append(file)
        return thumbnails.make_thumbnail(file, max_pixels=max_pixels)

    monkeypatch.setattr("orchestrator.operations.thumbnails.make_thumbnail", counting)
    return made


def names(api: Api) -> set[str]:
    return {name.rpartition("/")[2] for name in archive_kit.files(api.harness)}


@pytest.mark.parametrize("what", [get, thumbnail])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_who_has_it_already_is_told_so(
    api: Api, kept: str, what: Callable[..., TestResponse], form: str
) -> None:
    tag = what(api, kept).headers["ETag"]

    response = what(api, kept, If_None_Match=form.format(tag))

    assert (response.status_code, response.data) == (304, b"")
    assert response.headers["ETag"] == tag
    assert what(api, kept, If_None_Match='"other"').status_code == 200


def test_who_has_it_already_costs_no_reading(api: Api, kept: str, tmp_path: Path) -> None:
    tag = get(api, kept).headers["ETag"]
    (tmp_path / "archive" / path(kept)).with_name("0.png").unlink()

    assert get(api, kept, If_None_Match=tag).status_code == 304
    assert get(api, kept, If_None_Match=tag, Range="bytes=0-3").status_code == 304


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-3", 0, 4),
        ("bytes=10-", 10, SIZE),
        ("bytes=-8", SIZE - 8, SIZE),
        ("bytes=5-99999", 5, SIZE),
    ],
)
def test_a_part_is_given_out(api: Api, kept: str, asked: str, first: int, end: int) -> None:
    response = get(api, kept, Range=asked)

    assert (response.status_code, response.data) == (206, picture()[first:end])
    assert response.headers["Content-Range"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert response.headers["Content-Length"] == str(end - first)
    assert get(api, kept).headers["Accept-Ranges"] == "bytes"


def test_a_part_of_a_large_file_costs_little_memory(api: Api, kept: str, tmp_path: Path) -> None:
    with (tmp_path / "archive" / path(kept)).with_name("0.png").open("r+b") as file:
        file.truncate(64 * 1024 * 1024)

    tracemalloc.start()
    try:
        response = get(api, kept, Range="bytes=-8")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (response.status_code, response.data) == (206, bytes(8))
    assert peak < 8 * 1024 * 1024


def test_head_of_an_image_at_the_provider_has_the_headers_alone(api: Api) -> None:
    job_id = Gallery(api.harness).job(picture())

    response = api.app.test_client().head(
        f"/v1/jobs/{job_id}/images/0", headers=api.headers, buffered=True
    )

    assert (response.status_code, response.data, response.content_length) == (200, b"", SIZE)


def test_a_part_beyond_the_end_is_a_416(api: Api, kept: str) -> None:
    response = get(api, kept, Range="bytes=999999-")

    assert (response.status_code, response.mimetype) == (416, "application/problem+json")
    assert response.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("current", [True, False])
def test_a_part_of_what_one_has(api: Api, kept: str, current: bool) -> None:
    tag = get(api, kept).headers["ETag"] if current else '"other"'

    response = get(api, kept, Range="bytes=0-3", If_Range=tag)

    assert response.status_code == (206 if current else 200)


def test_head_has_the_headers_alone(api: Api, kept: str) -> None:
    response = api.app.test_client().head(
        f"/v1/jobs/{kept}/images/0", headers=api.headers, buffered=True
    )

    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Content-Length"] == str(SIZE)


# When the job has left the ledger ----------------------------------------------------------


def test_an_image_outlives_its_job(api: Api, kept: str) -> None:
    before, small = get(api, kept), thumbnail(api, kept)
    forgotten(api, kept)

    assert api.get(f"/v1/jobs/{kept}").status_code == 404
    after = get(api, kept)
    assert (after.status_code, after.data) == (200, picture())
    own = {"Date": "", HEADER: ""}
    headers = [{**response.headers, **own} for response in (before, after)]
    assert headers[0] == headers[1]
    assert thumbnail(api, kept).data == small.data
    assert get(api, kept, 1).status_code == 404


def test_what_is_lost_says_why_for_ever(api: Api) -> None:
    job_id = ended(api.harness, Gallery(api.harness).job(Answer(403), expires=[60_000]))

    for response in (get(api, job_id), thumbnail(api, job_id), get(api, forgotten(api, job_id))):
        assert (response.status_code, response.mimetype) == (410, "application/problem+json")
        assert response.json is not None
        assert response.json["detail"].endswith("could not be archived: it answered 403")
        assert response.json["type"] == "urn:orchestrator:problem:gone"


# What there is not -------------------------------------------------------------------------


@pytest.mark.parametrize("index", [1, 2**31, 2**63, 10**30, "9" * 5000, -1, "-0", "0x0", "one", ""])
def test_an_image_that_there_never_was_is_a_404(api: Api, kept: str, index: object) -> None:
    for _ in range(2):
        response = get(api, kept, index)
        assert (response.status_code, response.mimetype) == (404, "application/problem+json")
        forgotten(api, kept)


@pytest.mark.parametrize(
    "job_id",
    [
        "job_" + "0" * 28,
        "job_01m7z20phnfb7am34n5y69ch6f00",
        "job_7zzzzzzzzzzzzzzzzzzzzzzzzz00",
        "job_zzzzzzzzzzzzzzzzzzzzzzzzzz00",
        "..%2f..%2fetc%2fpasswd",
        "..",
        "%00",
        "x" * 3000,
        "{orch:0}:hosts",
        "<script>",
    ],
)
def test_a_job_that_there_never_was_is_a_404(api: Api, job_id: str) -> None:
    for what in (get, thumbnail):
        response = what(api, job_id)
        assert (response.status_code, response.mimetype) == (404, "application/problem+json")
        assert len(response.data) < 1000


def test_a_job_without_images_has_none(api: Api) -> None:
    for job_id in (api.created(), job_states.running(api.harness), job_states.refused(api.harness)):
        response = get(api, job_id)
        assert response.status_code == 404
        assert response.json is not None
        assert "numbers start at 0" in response.json["detail"]


@pytest.mark.parametrize("what", [get, thumbnail])
def test_without_a_key_nothing_is_given_out(
    api: Api, kept: str, what: Callable[..., TestResponse]
) -> None:
    waiting = Gallery(api.harness).job(picture())
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        api.headers = headers
        assert what(api, kept).status_code == 401
        response = what(api, waiting)
        assert (response.status_code, "Location" in response.headers) == (401, False)


def test_a_copy_that_somebody_removed_is_a_404(api: Api, kept: str, tmp_path: Path) -> None:
    (tmp_path / "archive" / path(kept)).with_name("0.png").unlink()

    response = get(api, kept)

    assert response.status_code == 404
    assert response.json is not None
    assert "not in the archive any more" in response.json["detail"]


def test_while_the_storage_is_away_callers_are_told_to_come_back(
    api: Api, kept: str, tmp_path: Path
) -> None:
    file = (tmp_path / "archive" / path(kept)).with_name("0.png")
    file.unlink()
    file.mkdir()

    response = get(api, kept)

    assert (response.status_code, response.mimetype) == (503, "application/problem+json")
    assert response.headers["Retry-After"] == "5"
    assert str(tmp_path) not in response.text, "where it is kept is nobody's business"


def restarted(api: Api, tmp_path: Path) -> Api:
    """Return the API of a new process, which has not used the archive yet."""
    storage = Storage.from_url((tmp_path / "archive").as_uri())
    harness = api.harness.with_runtime(storage=storage)
    return Api(harness, WebApp(harness.runtime))


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("which", ["0", "0/thumbnail"])
def test_an_image_of_a_disk_that_is_away_is_not_said_to_be_removed(
    api: Api, kept: str, tmp_path: Path, which: str, *, again: bool
) -> None:
    api = restarted(api, tmp_path) if again else api
    (tmp_path / "archive").rename(tmp_path / "disk")

    assert get(api, kept, which).status_code == 503

    (tmp_path / "disk").rename(tmp_path / "archive")
    assert get(api, kept, which).status_code == 200


def test_an_image_on_a_broken_disk_is_a_503(
    api: Api, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error", str(tmp_path))

    monkeypatch.setattr(images_api, "send_file", broken)

    response = get(api, kept)

    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert str(tmp_path) not in response.text


def test_wrong_bytes_of_a_storage_make_no_thumbnail(api: Api, kept: str, tmp_path: Path) -> None:
    file = (tmp_path / "archive" / path(kept)).with_name("0.png")
    file.write_bytes(bytes(SIZE))

    assert thumbnail(api, kept).status_code == 503
    assert "0.thumb.webp" not in names(api)

    file.write_bytes(picture())
    assert thumbnail(api, kept).status_code == 200


def test_while_the_ledger_is_away_callers_are_told_to_come_back(api: Api, away: Ledger) -> None:
    client = Api(harness := api.harness.on(away), WebApp(harness.runtime))

    assert get(client, identifiers.new_job_id(0, NOON)).status_code == 503


def test_the_specification_names_both_routes(api: Api) -> None:
    document: Any = api.app.test_client().get("/openapi.json").json

    for route in ("", "/thumbnail"):
        described = document["paths"][f"/v1/jobs/{{job_id}}/images/{{index}}{route}"]["get"]
        assert {"200", "302", "404", "410"} <= set(described["responses"])
        assert described["security"] == [{"bearer": []}]


# From a bucket -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with moto() as endpoint:
        yield endpoint


@pytest.fixture
def in_s3(
    start: Callable[..., Harness], s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Api:
    """The API on an archive in S3."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    client = bucket_client(s3_endpoint)
    client.create_bucket(Bucket="images")
    client.close()
    harness = archive_kit.harness(start, tmp_path, ORCHESTRATOR_ARCHIVE_URL="s3://images/pre/fix")
    return Api(harness, WebApp(harness.runtime))


def test_a_bucket_is_led_to_by_a_link_that_works_and_does_not_last(in_s3: Api) -> None:
    job_id = archived(in_s3.harness, Gallery(in_s3.harness).job(picture()))
    for response, kind in ((get(in_s3, job_id), "png"), (thumbnail(in_s3, job_id), "webp")):
        assert (response.status_code, response.headers["Cache-Control"]) == (302, "no-store")
        link = response.headers["Location"]
        assert f"X-Amz-Expires={LINK_SECONDS}" in link
        assert SECRET not in link
        got = requests.get(link, timeout=60)
        assert (got.status_code, got.headers["Content-Type"]) == (200, f"image/{kind}")
        assert kind == "webp" or got.content == picture()


def test_a_bucket_gives_an_unchecked_file_out_as_an_attachment(in_s3: Api) -> None:
    job_id = archived(in_s3.harness, Gallery(in_s3.harness).job(SVG))

    got = requests.get(get(in_s3, job_id).headers["Location"], timeout=60)

    assert (got.status_code, got.content) == (200, SVG)
    assert got.headers["Content-Disposition"] == 'attachment; filename="0.svg"'
    assert thumbnail(in_s3, job_id).status_code == 404


def test_a_bucket_keeps_images_beyond_their_jobs(in_s3: Api) -> None:
    gallery = Gallery(in_s3.harness)
    job_id = ended(in_s3.harness, gallery.job(picture(), Answer(404), expires=[0, 0]))
    forgotten(in_s3, job_id)

    link = get(in_s3, job_id).headers["Location"]
    assert requests.get(link, timeout=60).content == picture()
    assert get(in_s3, job_id, 1).status_code == 410
    assert get(in_s3, job_id, 2).status_code == 404
    assert get(in_s3, identifiers.new_job_id(0, NOON)).status_code == 404


def test_a_bucket_that_is_away_is_a_503(
    in_s3: Api, start: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    harness = archive_kit.harness(start, tmp_path, ORCHESTRATOR_ARCHIVE_URL="s3://images")

    response = get(Api(harness, WebApp(harness.runtime)), identifiers.new_job_id(0, NOON))

    assert response.status_code == 503
    assert response.json is not None
    assert response.json["type"] == "urn:orchestrator:problem:archive-unavailable"
