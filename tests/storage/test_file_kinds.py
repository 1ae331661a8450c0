"""The kind of a file by its bytes, error pages, and files whose end is missing."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from PIL import Image

from orchestrator.storage.file_kinds import KINDS, MAX_MESSAGE_BYTES, Unusable, check_end, identify
from tests.support.cases import for_each


def encoded(form: str, **options: Any) -> bytes:
    written = io.BytesIO()
    Image.effect_noise((120, 90), 90).convert("RGB").save(written, form, **options)
    return written.getvalue()


def box(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def riff(kind: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 104) + kind + bytes(100)


def matroska(doctype: bytes) -> bytes:
    header = b"\x42\x86\x81\x01\x42\x82" + bytes([0x80 + len(doctype)]) + doctype
    segment = b"\x18\x53\x80\x67\x01\0\0\0\0\0\0\x64" + bytes(100)
    return b"\x1a\x45\xdf\xa3" + bytes([0x80 + len(header)]) + header + segment


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp41")
SVG = (
    b'<?xml version="1.0"?>\n<!-- drawn --><svg xmlns="http://www.w3.org/2000/svg"><g></g></svg>\n'
)
#: Files whose cut is seen: name, content.
WITH_END: dict[str, list[bytes]] = {
    "PNG": [encoded("PNG")],
    "JPEG": [encoded("JPEG"), encoded("JPEG", progressive=True)],
    "GIF": [encoded("GIF"), b"GIF87a" + encoded("GIF")[6:]],
    "WEBP": [encoded("WEBP")],
    "AVIF": [encoded("AVIF"), box(b"ftyp", b"mif1\0\0\0\0mif1avif") + box(b"meta", bytes(99))],
    "HEIC": [
        box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(9)) + box(b"mdat", bytes(99))
    ],
    "TIFF": [encoded("TIFF"), encoded("TIFF", compression="tiff_lzw")],
    "BMP": [encoded("BMP")],
    "JPEG 2000": [encoded("JPEG2000"), encoded("JPEG2000", no_jp2=True)],
    "MP4": [
        FTYP + box(b"moov", bytes(99)) + box(b"mdat", bytes(99)),
        FTYP + box(b"moof") + b"\0\0\0\1mdat" + struct.pack(">Q", 116) + bytes(100),
    ],
    "QuickTime": [box(b"ftyp", b"qt  ") + box(b"mdat", bytes(99)) + box(b"moov", bytes(99))],
    "M4A": [box(b"ftyp", b"M4A \0\0\0\0") + box(b"moov", bytes(99))],
    "WebM": [matroska(b"webm")],
    "Matroska": [matroska(b"matroska")],
    "WAV": [riff(b"WAVE")],
    "AVI": [riff(b"AVI ")],
    "PDF": [encoded("PDF")],
    "ZIP": [b"PK\x03\x04" + bytes(500) + b"PK\x05\x06" + bytes(18)],
    "glTF": [b"glTF\2\0\0\0" + struct.pack("<I", 100) + bytes(88)],
    "SVG": [SVG, b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'],
}
#: Files whose length cannot be seen.
WITHOUT_END: dict[str, list[bytes]] = {
    "MP3": [b"ID3\4" + bytes(99), b"\xff\xfb" + bytes(99)],
    "AAC": [b"\xff\xf1" + bytes(99)],
    "FLAC": [b"fLaC" + bytes(99)],
    "Ogg": [b"OggS" + bytes(99)],
    "icon": [b"\0\0\1\0\1\0" + bytes(99)],
    "Photoshop": [b"8BPS" + bytes(99)],
    "JPEG XL": [b"\xff\x0a" + bytes(99), box(b"JXL ", b"\r\n\x87\n") + bytes(99)],
    "gzip": [b"\x1f\x8b\x08" + bytes(99)],
    "WebM": [b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(99)],
    "WAV": [b"RIFF\xff\xff\xff\xffWAVE" + bytes(99), b"RIFF\0\0\0\0WAVE" + bytes(99)],
    "text": [b"1\n00:00:01,000 --> 00:00:02,000\nA cube.\n" * 50, "Über\n".encode() * 300],
    "unknown": [bytes(200), b"\x93" * 2000, b"BM is no BMP\0", "Ü\n".encode("latin-1") * 900],
}


def found(content: bytes) -> str:
    file = io.BytesIO(content)
    kind = identify(file)
    check_end(file, kind)
    return kind.name


def test_a_kind_is_known_by_its_bytes_and_a_cut_is_seen() -> None:
    for name, contents in WITH_END.items():
        for content in contents:
            assert found(content) == name
            for cut in {len(content) // 2, len(content) * 9 // 10, len(content) - 30}:
                file = io.BytesIO(content[:cut])
                kind = identify(file)
                with pytest.raises(Unusable, match=f"the end of the {name} file"):
                    check_end(file, kind)


@for_each("name", WITHOUT_END)
def test_a_file_whose_length_is_not_known_is_complete(name: str) -> None:
    for content in WITHOUT_END[name]:
        assert found(content) == name


def test_a_video_without_its_index_is_cut() -> None:
    with pytest.raises(Unusable, match="truncated"):
        found(FTYP + box(b"mdat", bytes(99)))


def test_bytes_after_the_end_change_nothing() -> None:
    for name in sorted(set(WITH_END) - {"SVG"}):
        for content in WITH_END[name]:
            assert found(content + b"\r\n\0\0more bytes\0") == name


def test_only_decoded_images_are_shown_by_a_browser() -> None:
    assert {kind.name for kind in KINDS.values() if kind.inline} == {
        *("PNG", "JPEG", "GIF", "WEBP", "AVIF")
    }
    assert "text/html" not in {kind.content_type for kind in KINDS.values()}


@for_each(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b'{"error":"expired"}', 'an error page: JSON: {"error":"expired"}'),
        (b"\xef\xbb\xbf \n [1,\n 2]", "an error page: JSON: [1, 2]"),
        (b"<!DOCTYPE html><title>404</title>", "an error page: HTML: <!DOCTYPE html><title>404"),
        (b"<HTML>gone", "an error page: HTML: <HTML>gone"),
        (b"<!-- a --><html>gone", "an error page: HTML: <!-- a --><html>gone"),
        ("<html>gone".encode("utf-16"), "an error page: HTML: <html>gone"),
        (b"<html>\xe9gone\xe9" * 99, "an error page: HTML: <html>\ufffdgone"),
        (b"<?xml version='1.0'?><Error/>", "an error page: XML: <?xml version='1.0'?><Error/>"),
        (b"<html><svg></svg>", "an error page: HTML: <html><svg></svg>"),
        (b"<!---->" * 140 + b"x", "an error page: XML: <!---->"),
        (b"Not found\r\n", "an error page: text: Not found"),
        (b"x" * MAX_MESSAGE_BYTES, "an error page: text: xxx"),
    ],
)
def test_an_error_page_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as raised:
        identify(io.BytesIO(content))

    assert str(raised.value).startswith(reason)
    assert len(str(raised.value)) < 120
    assert str(raised.value).isprintable()
