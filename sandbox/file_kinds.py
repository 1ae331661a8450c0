"""The values of the fault `file`: what an image link leads to in place of a usual image."""

import io
import struct
import wave
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from PIL import Image, PngImagePlugin

from .choices import Choice
from .decompression import png

#: Text in `png_text`, in bytes, before it is compressed. It compresses by a factor of 1000.
TEXT_BYTES = 2 * 1024 * 1024
#: Side of `8k`. Pixels.
LARGE_SIDE_PIXELS = 8192
#: Size of `tiny`. Pixels.
TINY_PIXELS = (25, 14)

_SVG = b"""<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="512" height="512">
<rect width="512" height="512" fill="teal"/>
</svg>
"""
#: Sound data of `audio`. Bytes.
_SILENCE_BYTES = 16_000


@dataclass(frozen=True)
class FileFault(Choice):
    """One kind of file."""

    content_type: str = "application/octet-stream"
    #: Returns the file for the image that the task "generated".
    make: Callable[[bytes], bytes] = bytes


def _saved(image_format: str, image: bytes) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(image)) as opened:
        opened.convert("RGB").save(out, image_format)
    return out.getvalue()


def _mpo(image: bytes) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(image)) as opened:
        first = opened.convert("RGB")
        first.save(out, "MPO", save_all=True, append_images=[first.rotate(180)])
    return out.getvalue()


def _tiny(image: bytes) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(image)) as opened:
        opened.resize(TINY_PIXELS).save(out, "PNG")
    return out.getvalue()


def _png_with_text(image: bytes) -> bytes:
    out, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("prompt", "x" * TEXT_BYTES, zip=True)
    with Image.open(io.BytesIO(image)) as opened:
        opened.save(out, "PNG", pnginfo=info)
    return out.getvalue()


@cache
def _large_png() -> bytes:
    # One bit for each pixel, so that the whole image takes 8 MB of memory.
    line = b"\0" + b"\xf0" * (LARGE_SIDE_PIXELS // 8)
    return png(LARGE_SIDE_PIXELS, zlib.compress(line * LARGE_SIDE_PIXELS, 1), bits=1)


def _box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + name + data


def _media_file(brands: tuple[bytes, bytes], main_box: bytes) -> bytes:
    """Return a file of boxes: its brands, its main box and some data. It shows no picture."""
    header = _box(b"ftyp", brands[0] + bytes(4) + b"".join(brands))
    return header + main_box + _box(b"mdat", bytes(range(256)) * 4)


def _video() -> bytes:
    """Return an MP4 of one second without a track."""
    # Version and times, 1000 units for each second, 1000 units long, usual speed and volume.
    fields = struct.pack(">IIIIIIH10x", 0, 0, 0, 1000, 1000, 0x10000, 0x100)
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    header = fields + matrix + bytes(24) + struct.pack(">I", 1)
    return _media_file((b"isom", b"mp42"), _box(b"moov", _box(b"mvhd", header)))


def _heic() -> bytes:
    """Return a HEIC without an item."""
    handler = _box(b"hdlr", bytes(8) + b"pict" + bytes(13))
    return _media_file((b"heic", b"mif1"), _box(b"meta", bytes(4) + handler))


def _silence() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(_SILENCE_BYTES))
    return out.getvalue()


_KINDS = (
    FileFault("octet_stream", "the usual image, without a media type of images"),
    FileFault("wrong_type", "the usual image as `text/plain`", content_type="text/plain"),
    FileFault("mpo", "a JPEG of two pictures (MPO)", content_type="image/jpeg", make=_mpo),
    FileFault("gif", "a GIF", content_type="image/gif", make=partial(_saved, "GIF")),
    FileFault("tiff", "a TIFF", content_type="image/tiff", make=partial(_saved, "TIFF")),
    FileFault("bmp", "a BMP", content_type="image/bmp", make=partial(_saved, "BMP")),
    FileFault("jp2", "a JPEG 2000", content_type="image/jp2", make=partial(_saved, "JPEG2000")),
    FileFault("avif", "an AVIF", content_type="image/avif", make=partial(_saved, "AVIF")),
    FileFault(
        "heic",
        "a HEIC without a picture",
        content_type="image/heic",
        make=lambda _: _heic(),
    ),
    FileFault("svg", "an SVG", content_type="image/svg+xml", make=lambda _: _SVG),
    FileFault(
        "video",
        "an MP4 of one second, without a picture",
        content_type="video/mp4",
        make=lambda _: _video(),
    ),
    FileFault("audio", "a WAV of one second", content_type="audio/wav", make=lambda _: _silence()),
    FileFault("tiny", "a PNG of 25 x 14 pixels", content_type="image/png", make=_tiny),
    FileFault(
        "png_text",
        "a PNG with 2 MiB of compressed text",
        content_type="image/png",
        make=_png_with_text,
    ),
    FileFault(
        "8k",
        "a PNG of 8192 x 8192 pixels",
        content_type="image/png",
        make=lambda _: _large_png(),
    ),
)

#: Every kind by its name.
FILE_KINDS = {kind.name: kind for kind in _KINDS}
