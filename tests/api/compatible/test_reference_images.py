"""Reference images as bytes: forms, data URLs, and the links that providers fetch."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.datastructures import FileStorage

from orchestrator.ledger import Ledger
from orchestrator.reference_images import LIFETIME_MS, delete_old_references
from orchestrator.security.secret import Secret
from orchestrator.storage.storage import StorageError
from tests.api.compatible.conftest import EDITS, MODEL, REQUEST, Compatible
from tests.api.conftest import Api
from tests.support.archive_kit import picture
from tests.support.web import WebApp

BOUNDARY = "the-boundary"


def edit(compatible: Compatible, *images: bytes, **fields: Any) -> Any:
    """Send a form."""
    name = "image" if len(images) == 1 else "image[]"
    files = [FileStorage(io.BytesIO(each), f"{n}.png", name) for n, each in enumerate(images)]
    data = {"model": MODEL, "prompt": "In blue", **fields, name: files}
    return compatible.api.post(EDITS, data=data, content_type="multipart/form-data")


def links(compatible: Compatible, answer: Any) -> list[str]:
    found: list[str] = compatible.job(answer).request.options["images"]
    return found


def fetched(compatible: Compatible, url: str) -> Any:
    """What a provider gets from a link."""
    assert url.startswith("https://hooks.example.com/")
    return compatible.api.app.test_client().get(urlsplit(url).path, buffered=True)


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form whose parts have the given headers and contents."""
    written = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content
        for head, content in parts
    ]
    return b"\r\n".join([*written, f"--{BOUNDARY}--\r\n".encode()])


def test_files_become_links_that_the_provider_can_fetch(compatible: Compatible) -> None:
    images = [picture(0), picture(1, "JPEG"), picture(2, "WEBP")]

    sent = links(compatible, edit(compatible, *images))

    shown = [fetched(compatible, each) for each in sent]
    assert [each.data for each in shown] == images
    assert [each.mimetype for each in shown] == ["image/png", "image/jpeg", "image/webp"]
    assert all(each.headers["X-Content-Type-Options"] == "nosniff" for each in shown)


def test_a_part_without_a_file_name_is_a_file_by_its_type(compatible: Compatible) -> None:
    body = form(
        ('name="model"', MODEL.encode()),
        ('name="prompt"', b"In blue"),
        ('name="metadata[order]"', b"4711"),
        ('name="image"\r\nContent-Type: application/octet-stream', picture()),
    )

    answer = compatible.api.post(
        EDITS, data=body, content_type=f"multipart/form-data; boundary={BOUNDARY}"
    )

    assert fetched(compatible, links(compatible, answer)[0]).data == picture()
    assert compatible.job(answer).request.metadata == {"order": "4711"}


@pytest.mark.parametrize(("written", "seconds"), [("90.5", 90.5), ("600", 600), ("6e2", None)])
def test_a_number_in_a_form_is_a_number(
    compatible: Compatible, written: str, seconds: float | None
) -> None:
    answer = edit(compatible, picture(), deadline_seconds=written)

    if seconds is None:
        assert answer.status_code == 400
        assert "deadline_seconds must be a number of seconds" in answer.text
    else:
        assert compatible.job(answer).request.deadline_seconds == seconds


def test_a_text_is_a_text_whatever_its_type_is(compatible: Compatible) -> None:
    body = form(
        ('name="model"', MODEL.encode()),
        ('name="prompt"\r\nContent-Type: application/octet-stream', b"In blue"),
        ('name="image"; filename="0.png"', picture()),
    )

    answer = compatible.api.post(
        EDITS, data=body, content_type=f"multipart/form-data; boundary={BOUNDARY}"
    )

    assert compatible.job(answer).request.options["prompt"] == "In blue"


def test_a_form_with_too_many_parts_says_so(compatible: Compatible) -> None:
    body = form(*[('name="metadata[a]"', b"x" * 1000)] * 300)

    answer = compatible.api.post(
        EDITS, data=body, content_type=f"multipart/form-data; boundary={BOUNDARY}"
    )

    assert answer.status_code == 413
    assert answer.json
    assert answer.json["error"]["message"] == "the form may have 100 parts"


def test_the_provider_that_takes_files_gets_the_file(compatible: Compatible) -> None:
    job = compatible.job(edit(compatible, picture(), model="uniall/gpt-image-2"))

    assert "images" not in job.request.options
    assert job.request.upload
    assert job.request.upload.bytes == len(picture())


def test_images_in_json_are_links_or_data_urls(compatible: Compatible) -> None:
    data = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    items = ["https://example.com/0.png", data, {"image_url": data}, {"image_url": {"url": data}}]
    body = {"model": MODEL, "prompt": "In blue", "images": items}

    sent = links(compatible, compatible.api.post(EDITS, json=body))

    assert sent[0] == "https://example.com/0.png"
    assert len(set(sent[1:])) == 1
    assert fetched(compatible, sent[1]).data == picture()


@pytest.mark.parametrize(("over", "status"), [(0, 503), (1, 400)])
def test_the_largest_image_may_come_in_base64(
    open_compatible: Callable[..., Compatible], over: int, status: int
) -> None:
    """Base64 is a third longer than the image. Of 5 MiB this is more than the room of a request."""
    limit = 5 * 1024 * 1024
    compatible = open_compatible(ORCHESTRATOR_MAX_UPLOAD_BYTES=str(limit))
    text = base64.b64encode(picture() + bytes(limit + over - len(picture()))).decode()
    inline = [{"text": "In blue"}, {"inlineData": {"mimeType": "image/png", "data": text}}]

    answers = [
        compatible.api.post(EDITS, json={**REQUEST, "images": [f"data:image/png;base64,{text}"]}),
        compatible.content({"contents": [{"parts": inline}]}),
    ]

    assert [each.status_code for each in answers] == [status] * 2


def test_the_same_request_is_the_same_job(compatible: Compatible) -> None:
    first, again, other = (
        compatible.job(edit(compatible, content)).id
        for content in (picture(0), picture(0), picture(1))
    )

    assert first == again != other


@pytest.mark.parametrize("key", [{"Idempotency-Key": "order-1"}])
def test_the_same_request_with_a_key_is_no_mismatch(
    compatible: Compatible, key: dict[str, str]
) -> None:
    data = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    body = {"model": MODEL, "prompt": "In blue", "images": [data]}
    answers = []
    for _ in range(2):
        answers.append(compatible.api.post(EDITS, json=body, headers=key))
        compatible.harness.clock.forward(3600)

    assert len({compatible.job(each).id for each in answers}) == 1


@pytest.mark.parametrize(
    ("images", "fields", "param"),
    [
        ((), {}, "image"),
        ((b"no image",), {}, "image"),
        ((b"GIF89a",), {}, "image"),
        (tuple(picture(n) for n in range(17)), {}, "image"),
        ((picture(),), {"mask": (io.BytesIO(picture()), "mask.png")}, "mask"),
        ((picture(),), {"picture": (io.BytesIO(picture()), "0.png")}, "picture"),
        ((picture(),), {"n": "many"}, "n"),
        ((picture(),), {"n": ["1", "2"]}, "n"),
        ((picture(),), {"prompt": ["In blue", "In red"]}, "prompt"),
        ((picture(),), {"metadata[order]": ["1", "2"]}, "metadata[order]"),
        ((picture(),), {"metadata[a]": "1", "metadata": "2"}, "metadata"),
        ((picture(),), {"metadata" + "[a]" * 1000: "1"}, "metadata"),
        ((picture(),), {"provider_options": "1"}, "provider_options"),
    ],
)
def test_a_bad_form_is_refused_by_name(
    compatible: Compatible, images: tuple[bytes, ...], fields: dict[str, Any], param: str
) -> None:
    answer = edit(compatible, *images, **fields)

    assert answer.status_code == 400, answer.text
    assert answer.json["error"]["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        form(('name="model"', b"x"))[:-10],
        f"--{BOUNDARY}\r\n\r\nx".encode(),
        form(('filename="0.png"', b"x")),
        bytes(100_000) + form(('name="model"', b"x")),
        form(('name="model"' + ";a=b" * 50_000, b"x")),
        form(*[('name="model"' + ";a=b" * 5_000, b"x")] * 10),
    ],
)
def test_a_body_that_is_no_form_is_refused(compatible: Compatible, body: bytes) -> None:
    answer = compatible.api.post(
        EDITS, data=body, content_type=f"multipart/form-data; boundary={BOUNDARY}"
    )

    assert answer.status_code == 400
    assert answer.json
    assert answer.json["error"]["type"] == "invalid_request_error"


def test_a_form_that_is_too_large_is_refused(
    open_compatible: Callable[..., Compatible],
) -> None:
    compatible = open_compatible(ORCHESTRATOR_MAX_UPLOAD_BYTES="1000")

    assert edit(compatible, picture() + bytes(2000)).status_code == 400
    body = form(('name="image"; filename="0.png"', bytes(2_000_000)))
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    assert compatible.api.post(EDITS, data=body, content_type=kind).status_code == 413


def test_files_without_a_public_url_are_refused(
    open_compatible: Callable[..., Compatible],
) -> None:
    compatible = open_compatible(ORCHESTRATOR_PUBLIC_URL=None)

    answer = edit(compatible, picture())

    assert answer.status_code == 400
    assert "ORCHESTRATOR_PUBLIC_URL" in answer.json["error"]["message"]


@pytest.mark.parametrize("limits", [{"max_open": "1"}, {"requests_per_second": "0.1"}, {}])
def test_a_call_without_a_job_leaves_no_image(
    compatible: Compatible, limits: dict[str, str]
) -> None:
    """Otherwise a tenant that may have no further job could fill the storage."""
    if limits:
        compatible.harness.ledger.access.set_tenant("tests", limits)
        edit(compatible, picture(0), picture(1))
    known = list(compatible.harness.runtime.storage.put_before("references", 2**60))

    wrong = {} if limits else {"output_format": "gif"}
    answer = edit(compatible, picture(0), picture(2), **wrong)

    assert answer.status_code == (429 if limits else 400), answer.text
    left = list(compatible.harness.runtime.storage.put_before("references", 2**60))
    assert sorted(left) == sorted(known)


def test_a_call_that_gets_no_place_leaves_the_image_of_the_other(
    compatible: Compatible, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls with the same image at once, and the tenant may have one more job."""
    compatible.harness.ledger.access.set_tenant("tests", {"max_open": "1"})
    create = Ledger.create
    inner: list[Any] = []

    def create_after_the_other(ledger: Ledger, *args: Any, **options: Any) -> Any:
        monkeypatch.setattr(Ledger, "create", create)
        inner.append(edit(compatible, picture(), prompt="In red"))
        return create(ledger, *args, **options)

    monkeypatch.setattr(Ledger, "create", create_after_the_other)
    refused = edit(compatible, picture())

    assert refused.status_code == 429
    [url] = links(compatible, inner[0])
    assert fetched(compatible, url).data == picture()


def test_while_the_storage_is_away_a_call_is_sent_again(
    compatible: Compatible, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StorageError("file:///secret/folder: no space left")

    monkeypatch.setattr(compatible.harness.runtime.storage, "put", refuse)

    answer = edit(compatible, picture())

    assert answer.status_code == 503
    assert "Send the same request again" in answer.text
    assert "safe" not in answer.text, "nothing is stored yet"
    assert "/secret/folder" not in answer.text


def test_a_changed_link_shows_nothing(compatible: Compatible) -> None:
    [url] = links(compatible, edit(compatible, picture()))
    _, folder, token, owner, name = urlsplit(url).path.split("/")

    for parts in (
        (folder, token[:-1], owner, name),
        (folder, token, owner[:-1] + "x", name),
        (folder, token, owner, "0" * 64 + ".png"),
    ):
        assert (
            fetched(compatible, "https://hooks.example.com/" + "/".join(parts)).status_code == 404
        )


def test_a_link_and_its_image_end_after_their_lifetime(compatible: Compatible) -> None:
    [url] = links(compatible, edit(compatible, picture()))
    runtime = compatible.harness.runtime
    name = urlsplit(url).path.split("/", 3)[3]
    stored_at = runtime.storage.modified(f"references/{name}")
    assert stored_at is not None

    compatible.harness.clock.now = stored_at + LIFETIME_MS
    assert fetched(compatible, url).status_code == 200
    assert delete_old_references(runtime) == 0
    compatible.harness.clock.now = stored_at + LIFETIME_MS + 1
    assert fetched(compatible, url).status_code == 410
    assert delete_old_references(runtime) == 1
    assert fetched(compatible, url).status_code == 410
    assert runtime.storage.size(f"references/{name}") is None


def aged(compatible: Compatible, url: str, seconds: float) -> Callable[[], int | None]:
    """Let the image of a link be stored some time ago. Return what tells when it was stored."""
    storage, now = compatible.harness.runtime.storage, compatible.harness.clock.now / 1000
    path = "references/" + urlsplit(url).path.split("/", 3)[3]
    file = storage.local_path(path)
    assert file is not None
    os.utime(file, (now - seconds, now - seconds))
    return lambda: storage.modified(path)


def test_a_retry_keeps_the_image_of_its_link(compatible: Compatible) -> None:
    first = compatible.job(edit(compatible, picture()))
    compatible.harness.ledger.cancel(first.id, now=compatible.harness.clock.now)
    stored_at = aged(compatible, first.request.options["images"][0], LIFETIME_MS / 1000 - 60)
    before = stored_at()

    answer = compatible.api.post(f"/v1/jobs/{first.id}/retry")

    assert answer.status_code == 202, answer.text
    assert (stored_at() or 0) > (before or 0)


@pytest.mark.parametrize("rotated", [False, True])
def test_a_job_whose_link_is_dead_is_not_retried(compatible: Compatible, rotated: bool) -> None:
    """Its provider would fail, and may charge for it."""
    first = compatible.job(edit(compatible, picture()))
    compatible.harness.ledger.cancel(first.id, now=compatible.harness.clock.now)
    aged(compatible, first.request.options["images"][0], 0 if rotated else LIFETIME_MS / 1000 + 1)
    settings = replace(compatible.harness.runtime.settings, secret_keys=(Secret("n" * 32),))
    runtime = replace(compatible.harness.runtime, settings=settings)
    api = Api(compatible.harness, WebApp(runtime)) if rotated else compatible.api

    answer = api.post(f"/v1/jobs/{first.id}/retry")

    assert answer.status_code == 409
    assert "enqueue it again with the image" in answer.text
    assert compatible.harness.ledger.overview.size() == 1


def test_an_image_that_is_sent_again_while_others_are_deleted_stays(
    compatible: Compatible, monkeypatch: pytest.MonkeyPatch
) -> None:
    [url] = links(compatible, edit(compatible, picture()))
    storage, clock = compatible.harness.runtime.storage, compatible.harness.clock
    path = "references/" + urlsplit(url).path.split("/", 3)[3]
    stored_at = storage.modified(path)
    assert stored_at is not None
    clock.now = stored_at + LIFETIME_MS + 1
    monkeypatch.setattr(storage, "modified", lambda _: clock.now)

    assert delete_old_references(compatible.harness.runtime) == 0

    assert storage.size(path) is not None
