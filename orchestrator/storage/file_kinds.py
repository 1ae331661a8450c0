"""Tells the kind of a file by its bytes, whatever an HTTP header says. Nothing is decoded here.

An expired link often answers 200 with an error page. A broken connection leaves a part of a file.
Both are fetched again. A file of an unknown kind is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from orchestrator.storage import file_ends
from orchestrator.storage.file_bytes import FileBytes
from orchestrator.storage.image_structure import MEASURES, Damaged, Size, Truncated

#: The start of a file that is searched for signatures. Bytes.
_HEAD_BYTES = 1024
#: A plain text of at most this length is an error message. A longer text is a file. Bytes.
MAX_MESSAGE_BYTES = 1024
#: The part of a text that a message shows. Characters.
MAX_EXCERPT_CHARACTERS = 80


class Unusable(Exception):
    """The file is empty, an error page, or truncated. The message says which.

    Another download may give the right file.
    """


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file. `is_complete` tells whether the end of a file is there."""

    name: str
    content_type: str
    extension: str
    is_complete: Callable[[FileBytes], bool] = lambda _: True

    @property
    def measure(self) -> Callable[[FileBytes], Size] | None:
        """The check of the structure of an image of this kind; None: it is not checked."""
        return MEASURES.get(self.name)

    @property
    def inline(self) -> bool:
        """Whether a browser may show it: it is one of the images that we check."""
        return self.measure is not None


_AVIF = FileKind("AVIF", "image/avif", "avif")
_HEIC = FileKind("HEIC", "image/heic", "heic", file_ends.iso_media)
_MP4 = FileKind("MP4", "video/mp4", "mp4", file_ends.iso_media)
_SVG = FileKind("SVG", "image/svg+xml", "svg", file_ends.svg)
_TEXT = FileKind("text", "text/plain", "txt")
_UNKNOWN = FileKind("unknown", "application/octet-stream", "bin")
_TIFF = FileKind("TIFF", "image/tiff", "tif", file_ends.tiff)
_BMP = FileKind("BMP", "image/bmp", "bmp", file_ends.bmp)
_MP3 = FileKind("MP3", "audio/mpeg", "mp3")
_AAC = FileKind("AAC", "audio/aac", "aac")
_JXL = FileKind("JPEG XL", "image/jxl", "jxl")

#: Patterns of the first bytes, in order.
_SIGNATURES: tuple[tuple[bytes, FileKind], ...] = (
    (rb"\x89PNG\r\n\x1a\n", FileKind("PNG", "image/png", "png")),
    (rb"\xff\xd8\xff", FileKind("JPEG", "image/jpeg", "jpg")),
    (rb"GIF8[79]a", FileKind("GIF", "image/gif", "gif")),
    (rb"RIFF....WEBP", FileKind("WEBP", "image/webp", "webp")),
    (rb"RIFF....WAVE", FileKind("WAV", "audio/wav", "wav", file_ends.riff)),
    (rb"RIFF....AVI ", FileKind("AVI", "video/x-msvideo", "avi", file_ends.riff)),
    (rb"....ftyp(?:avif|avis)", _AVIF),
    (rb"....ftyp(?:mif1|msf1|miaf).{0,100}?avi[fs]", _AVIF),
    (rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", _HEIC),
    (rb"....ftypM4[AB] ", FileKind("M4A", "audio/mp4", "m4a", file_ends.iso_media)),
    (rb"....ftypqt  ", FileKind("QuickTime", "video/quicktime", "mov", file_ends.iso_media)),
    (rb"....ftyp", _MP4),
    (rb"\0\0\0\x0cjP  ", FileKind("JPEG 2000", "image/jp2", "jp2", file_ends.iso_media)),
    (rb"\xff\x4f\xff\x51", FileKind("JPEG 2000", "image/j2c", "j2c", file_ends.jpeg_2000)),
    (rb"\0\0\0\x0cJXL ", _JXL),
    (rb"\xff\x0a", _JXL),
    (rb"II[*+]\0|MM\0[*+]", _TIFF),
    (
        rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
        FileKind("BMP", "image/bmp", "bmp", file_ends.bmp),
    ),
    (rb"\0\0\x01\0[^\0]\0", FileKind("icon", "image/vnd.microsoft.icon", "ico")),
    (rb"8BPS", FileKind("Photoshop", "image/vnd.adobe.photoshop", "psd")),
    (rb"\x1a\x45\xdf\xa3.{0,60}?webm", FileKind("WebM", "video/webm", "webm", file_ends.matroska)),
    (rb"\x1a\x45\xdf\xa3", FileKind("Matroska", "video/x-matroska", "mkv", file_ends.matroska)),
    (rb"OggS", FileKind("Ogg", "audio/ogg", "ogg")),
    (rb"fLaC", FileKind("FLAC", "audio/flac", "flac")),
    (rb"ID3[\x02-\x04]|\xff[\xfb\xfa\xf3\xf2]", _MP3),
    (rb"\xff[\xf1\xf9]", _AAC),
    (rb"%PDF-", FileKind("PDF", "application/pdf", "pdf", file_ends.pdf)),
    (rb"PK\x03\x04", FileKind("ZIP", "application/zip", "zip", file_ends.zip_archive)),
    (rb"\x1f\x8b\x08", FileKind("gzip", "application/gzip", "gz")),
    (rb"glTF", FileKind("glTF", "model/gltf-binary", "glb", file_ends.gltf)),
)
_COMPILED = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _SIGNATURES)

#: The kinds by their name. Kinds without a signature are here too.
KINDS = {kind.name: kind for _, kind in reversed(_COMPILED)} | {
    kind.name: kind for kind in (_SVG, _TEXT, _UNKNOWN)
}

_JSON = re.compile(r'\{\s*["}]|\[\s*[\]\[{"0-9-]')
_HTML = re.compile(
    r"(?:(?><!--.*?-->)\s*)*+<(?:!doctype\s+html|html|head|body|title|script|meta)\b", re.I | re.S
)
_XML = re.compile(r"<(?:[?!/]|[a-z_])", re.I)
#: The first of these elements tells a page from an SVG image.
_ROOT = re.compile(r"<(?:!doctype\s+|\w+:)?(svg|html)\b", re.I)
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
#: Control characters that no text has.
_CONTROL = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def identify(file: BinaryIO) -> FileKind:
    """Return the kind of a file.

    Raises:
        Unusable: the file is empty or an error page: HTML, JSON, XML or a short text.
        OSError: the disk failed.
    """
    content = FileBytes(file)
    head = content.part(0, _HEAD_BYTES)
    if not head:
        raise Unusable("an empty file")
    for signature, kind in _COMPILED:
        if signature.match(head):
            return kind
    text = _text(head)
    return _UNKNOWN if text is None else _kind_of_text(text, len(content))


def check_end(file: BinaryIO, kind: FileKind) -> None:
    """Check that the end of a file is there.

    Raises:
        Unusable: the file is truncated.
        OSError: the disk failed.
    """
    try:
        measured = not kind.measure or kind.measure(FileBytes(file))
    except Damaged:
        return
    except Truncated:
        measured = None
    if not measured or not kind.is_complete(FileBytes(file)):
        raise truncated(kind)


def truncated(kind: FileKind) -> Unusable:
    """Return the fault of a file whose end is missing."""
    return Unusable(f"truncated: the end of the {kind.name} file is missing")


def printable(text: str) -> str:
    """Return the start of a text as a message shows it: one line, without control characters."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:MAX_EXCERPT_CHARACTERS]


def _text(head: bytes) -> str | None:
    """Return the start of a text file, or None for other data."""
    encoding = next((name for bom, name in _BOMS if head.startswith(bom)), "utf-8")
    text = head.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    marked = any(pattern.match(text) for pattern in (_JSON, _HTML, _XML))
    broken = text[:-1].count("\ufffd") > len(text) // 20
    return None if _CONTROL.search(text) or (broken and not marked) else text


def _kind_of_text(text: str, size: int) -> FileKind:
    root = _ROOT.search(text) if _XML.match(text) else None
    if _JSON.match(text):
        raise _error_page("JSON", text)
    if _HTML.match(text) or (root and root[1].lower() == "html"):
        raise _error_page("HTML", text)
    if root:
        return _SVG
    if _XML.match(text):
        raise _error_page("XML", text)
    if size <= MAX_MESSAGE_BYTES:
        raise _error_page("text", text)
    return _TEXT


def _error_page(kind: str, text: str) -> Unusable:
    return Unusable(f"an error page: {kind}: {printable(text)}")
