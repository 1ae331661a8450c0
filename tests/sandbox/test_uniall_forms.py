"""Forms with files at UniAll, compared with its pages."""

import io
from typing import Any

import pytest
from PIL import Image

from sandbox.uniall import MAX_FILE_BYTES
from tests.sandbox.kit import SandboxClient

TASKS = "/uniall/v1/images/tasks"

_URL = "https://example.com/input.png"
_PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


def _nano(**changes: Any) -> dict[str, Any]:
    return {"model": "NanoBanana2-1K", "prompt": "A red cube", **changes}


def _gpt(**changes: Any) -> dict[str, Any]:
    return {"model": "gpt-image-2", "prompt": "A red cube", "size": "1024x1024", **changes}


def _upload(client: SandboxClient, fields: dict[str, Any], *images: bytes) -> Any:
    files = [("image", (f"{number}.png", image)) for number, image in enumerate(images)]
    # Text fields without a file name still make the form multipart.
    parts = [(name, (None, str(value))) for name, value in fields.items()]
    return client.post(TASKS, files=[*parts, *files])


def test_accepts_the_documented_form(client: SandboxClient) -> None:
    fields = {
        **{"model": "gpt-image-2", "task_type": "image2image"},
        "prompt": "Keep the subject, make it a clean studio product photo",
        **{"size": "1024x1024", "quality": "medium", "output_format": "png"},
        **{"n": "1", "response_format": "url"},
    }

    answer = _upload(client, fields, _PNG)

    assert answer.status_code == 200
    assert answer.json()["metadata"]["task_type"] == "image2image"
    (task,) = client.tasks()
    assert (task["model"], task["prompt"]) == (fields["model"], fields["prompt"])


def _drawn(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_accepts_a_file_as_the_reference_image(client: SandboxClient, kind: str) -> None:
    answer = _upload(client, _nano(n="2"), _drawn(kind))

    assert answer.status_code == 200
    assert answer.json()["metadata"]["task_type"] == "image2image"
    assert answer.json()["metadata"]["result_urls"] == []


def test_accepts_a_form_without_a_file(client: SandboxClient) -> None:
    assert _upload(client, _gpt()).json()["metadata"]["task_type"] == "text2image"


def test_accepts_several_links_in_a_form(client: SandboxClient) -> None:
    parts = [(name, (None, value)) for name, value in _nano().items()]

    answer = client.post(TASKS, files=[*parts, ("images", (None, _URL)), ("images", (None, _URL))])

    assert answer.json()["metadata"]["task_type"] == "image2image"


def test_refuses_a_file_of_another_kind(client: SandboxClient) -> None:
    answer = _upload(client, _nano(), _drawn("GIF"))

    assert answer.status_code == 400
    assert "PNG, JPEG or WebP" in answer.json()["message"]


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_refuses_a_file_that_is_too_large(client: SandboxClient, more: int, status: int) -> None:
    answer = _upload(client, _nano(), _PNG + bytes(MAX_FILE_BYTES - len(_PNG) + more))

    assert MAX_FILE_BYTES == 10 * 1024 * 1024
    assert answer.status_code == status
    if more:
        assert answer.json()["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        (("image", (None, _URL)), "image: Must be a file"),
        (("image", ("second.png", _PNG)), "image: Must be one file"),
        (("images", (None, _URL)), "images: Give image or images, not both."),
        (("images", ("a.png", _PNG)), "images: Unknown field"),
        (("mask", ("a.png", _PNG)), "mask: Unknown field"),
        (("image_url", (None, _URL)), "image_url: Unknown field"),
        (("prompt", (None, "Another")), "prompt: Given more than once"),
        (("n", (None, "1.5")), "n: Not a valid integer"),
        (("n", (None, "")), "n: Not a valid integer"),
        (("n", (None, "9" * 5000)), "n: Not a valid integer"),
        (("n", (None, "11")), "less than or equal to 10"),
    ],
)
def test_refuses_a_form_the_page_does_not_allow(
    client: SandboxClient, part: Any, complaint: str
) -> None:
    parts = [(name, (None, value)) for name, value in _nano().items()]

    answer = client.post(TASKS, files=[*parts, ("image", ("first.png", _PNG)), part])

    assert answer.status_code == 400
    assert complaint in answer.json()["message"]
    assert client.tasks() == []


def test_refuses_a_body_that_is_not_a_form(client: SandboxClient) -> None:
    answer = client.post(TASKS, data=b"{}", headers={"Content-Type": "multipart/form-data"})

    assert answer.status_code == 400
    assert "model: Missing" in answer.json()["message"]
