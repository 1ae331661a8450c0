"""The faults that change an image link, its answer and its file."""

import gzip
import io
import json
import socket
import struct
import sys
import zlib
from urllib.parse import quote, urlsplit

import brotli
import pytest
from PIL import Image

from sandbox.answer_forms import ENCODINGS, INTERIM_STATUSES, LINK_FORMS
from sandbox.file_kinds import FILE_KINDS, TEXT_BYTES
from tests.sandbox.kit import KEY, TIMEOUT_SECONDS, SandboxClient, links, submission, wait_until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PNG = b"\x89PNG"


def _link(client: SandboxClient, faults: str) -> str:
    (link,) = links(client.run("evolink", f"x [sandbox: {faults}]"))
    return link


def _raw(client: SandboxClient, method: str, path: str, body: str = "") -> bytes:
    """Return an answer as it is sent."""
    parts = urlsplit(client.url)
    address = (parts.hostname or "", parts.port or 0)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(address, TIMEOUT_SECONDS) as connection:
        connection.sendall((head + body).encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def _raw_get(client: SandboxClient, link: str) -> tuple[bytes, bytes]:
    """Return the head and the body of an image as they are sent."""
    head, _, body = _raw(client, "GET", urlsplit(link).path).partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    ("form", "mark"),
    [
        ("upper_scheme", "HTTP://"),
        ("spaces", "  http://"),
        ("newline", ".png\n"),
        ("blank", "/files/two words/"),
        ("non_ascii", "/files/grün/"),
        ("no_scheme", "//127.0.0.1:"),
    ],
)
def test_a_link_works_when_it_is_read_as_browsers_do(
    client: SandboxClient, form: str, mark: str
) -> None:
    assert form in LINK_FORMS
    link = _link(client, f"link_form={form}")
    # The scheme of `no_scheme` would be https.
    scheme = "http:" if form == "no_scheme" else ""
    normal = quote(scheme + link.strip(), safe=":/?=")

    assert mark in link
    assert client.fetch(normal).content.startswith(PNG)


def test_a_link_to_another_folder_does_not_exist(client: SandboxClient) -> None:
    link = _link(client, "link_form=non_ascii")

    assert client.fetch(link.replace("grün", "grun")).status_code == 404


def test_a_redirect_leads_to_a_link_with_raw_characters(client: SandboxClient) -> None:
    link = _link(client, "image=redirect_odd")
    head, _ = _raw_get(client, link)
    (location,) = [line for line in head.split(b"\r\n") if line.startswith(b"Location: ")]
    target = location.removeprefix(b"Location: ").decode()

    assert "/files/two words grün/" in target
    assert client.fetch(quote(target, safe=":/?=")).content.startswith(PNG)


@pytest.mark.parametrize("coding", ENCODINGS)
def test_an_image_has_each_encoding(client: SandboxClient, coding: str) -> None:
    header = {"empty": "", "not_gzip": "gzip"}.get(coding, coding.replace("+", ","))
    head, body = _raw_get(client, _link(client, f"encoding={coding}"))

    assert f"\r\nContent-Encoding: {header}\r\n" in head.decode()
    decoded = {
        "gzip": gzip.decompress,
        "aws-chunked+gzip": gzip.decompress,
        "br": brotli.decompress,
        "zstd": zstd.decompress,
    }.get(coding, bytes)(body)
    assert decoded[:4] == PNG


@pytest.mark.parametrize(
    ("kind", "start", "content_type"),
    [
        ("octet_stream", PNG, "application/octet-stream"),
        ("wrong_type", PNG, "text/plain"),
        ("heic", b"\0\0\0\x18ftypheic", "image/heic"),
        ("svg", b"<?xml", "image/svg+xml"),
        ("video", b"\0\0\0\x18ftypisom", "video/mp4"),
        ("audio", b"RIFF", "audio/wav"),
        ("png_text", PNG, "image/png"),
    ],
)
def test_a_file_begins_as_its_kind(
    client: SandboxClient, kind: str, start: bytes, content_type: str
) -> None:
    link = _link(client, f"file={kind}")
    answers = [client.fetch(link) for _ in range(2)]

    assert answers[0].content.startswith(start)
    assert answers[0].headers["Content-Type"].partition(";")[0] == content_type
    assert answers[0].content == answers[1].content


def test_the_boxes_of_a_video_are_whole(client: SandboxClient) -> None:
    data, names = client.fetch(_link(client, "file=video")).content, []
    while data:
        length, name = struct.unpack(">I4s", data[:8])
        assert 8 <= length <= len(data)
        names.append(name)
        data = data[length:]

    assert names == [b"ftyp", b"moov", b"mdat"]


def test_the_text_of_an_image_is_long(client: SandboxClient) -> None:
    content = client.fetch(_link(client, "file=png_text")).content
    _, _, text = content.partition(b"zTXtprompt\0\0")

    assert len(zlib.decompressobj().decompress(text)) == TEXT_BYTES


@pytest.mark.parametrize(
    ("kind", "image_format", "size"),
    [
        ("mpo", "MPO", (768, 768)),
        ("gif", "GIF", (768, 768)),
        ("tiff", "TIFF", (768, 768)),
        ("bmp", "BMP", (768, 768)),
        ("jp2", "JPEG2000", (768, 768)),
        ("avif", "AVIF", (768, 768)),
        ("tiny", "PNG", (25, 14)),
        ("8k", "PNG", (8192, 8192)),
    ],
)
def test_an_image_file_is_of_its_kind(
    client: SandboxClient, kind: str, image_format: str, size: tuple[int, int]
) -> None:
    answer = client.fetch(_link(client, f"file={kind}"))
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == (image_format, size)
        assert (getattr(image, "n_frames", 1) == 2) is (kind == "mpo")
        if kind == "8k":
            image.verify()  # decoding it takes 230 MB
        else:
            image.load()

    assert answer.headers["Content-Type"] == FILE_KINDS[kind].content_type
    assert len(answer.content) < 4_000_000


def test_a_file_can_follow_a_link_that_fails(client: SandboxClient) -> None:
    link = _link(client, "file=video, image=xml*1")
    first, second = client.fetch(link), client.fetch(link)

    assert (first.status_code, first.headers["Content-Type"]) == (200, "application/xml")
    assert "<Code>NoSuchKey</Code>" in first.text
    assert second.headers["Content-Type"] == "video/mp4"


# early_hints


@pytest.mark.parametrize("status", INTERIM_STATUSES)
def test_an_interim_answer_precedes_every_answer(client: SandboxClient, status: str) -> None:
    path, body = submission("hiapi", f"x [sandbox: early_hints={status}]")
    answers = [_raw(client, "POST", path, json.dumps(body))]
    task = client.tasks()[0]["id"]
    wait_until(lambda: client.task(task)["status"] == "succeeded")
    answers.append(_raw(client, "GET", f"/hiapi/v1/tasks/{task}"))
    answers.append(_raw(client, "GET", f"/files/{task}-0.png"))

    for answer in answers:
        interim, _, final = answer.partition(b"\r\n\r\n")
        assert interim.startswith(f"HTTP/1.1 {status} ".encode())
        assert final.startswith(b"HTTP/1.1 200 OK\r\n")
