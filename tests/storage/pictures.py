"""Pictures of every format, and what is seen of a file."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from orchestrator.storage.file_kinds import Unusable
from orchestrator.storage.images import FileFacts, inspect_file
from orchestrator.storage.thumbnails import NoThumbnail, make_thumbnail

PIXELS = 50_000_000
FORMATS = {
    "PNG": ("image/png", "png"),
    "JPEG": ("image/jpeg", "jpg"),
    "WEBP": ("image/webp", "webp"),
    "GIF": ("image/gif", "gif"),
    "AVIF": ("image/avif", "avif"),
}
#: Options that encode fast.
FAST: dict[str, dict[str, Any]] = {"WEBP": {"method": 0}, "AVIF": {"speed": 10}}


def drawn(width: int = 320, height: int = 240, mode: str = "RGB") -> Image.Image:
    """Noise in a gradient, dark at its top left and bright at its right."""
    noise = Image.frombytes("L", (64, 64), bytes(i * i * 31 % 251 for i in range(4096)))
    ramp = Image.linear_gradient("L").rotate(90).resize((width, height))
    red = Image.blend(ramp, noise.resize((width, height)), 0.1)
    picture = Image.merge("RGB", (red, ramp, ramp.transpose(Image.Transpose.FLIP_TOP_BOTTOM)))
    return picture.convert(mode)


def encoded(format_: str, picture: Image.Image | None = None, **options: Any) -> bytes:
    written = io.BytesIO()
    (picture or drawn()).save(written, format_, **{**FAST.get(format_, {}), **options})
    return written.getvalue()


VALID = {name: encoded(name) for name in FORMATS}
VALID["progressive JPEG"] = encoded("JPEG", drawn(1100, 600), progressive=True)
VALID["large JPEG"] = encoded("JPEG", drawn(1100, 600))
VALID["lossless WEBP"] = encoded("WEBP", lossless=True)


def seen(content: bytes, max_pixels: int = PIXELS) -> tuple[FileFacts, Image.Image]:
    """Return the facts of a checked image, and its thumbnail."""
    facts = inspect_file(io.BytesIO(content), max_pixels=max_pixels)
    assert facts.check_error is None
    small = Image.open(io.BytesIO(small_of(content, max_pixels)), formats=["WEBP"])
    small.load()
    return facts, small


def small_of(content: bytes, max_pixels: int = PIXELS) -> bytes:
    return make_thumbnail(io.BytesIO(content), max_pixels=max_pixels)


def unchecked(content: bytes, max_pixels: int = PIXELS) -> str:
    """Why a file is kept although it is not checked."""
    facts = inspect_file(io.BytesIO(content), max_pixels=max_pixels)
    assert facts.check_error is not None
    return facts.check_error


def refusal(content: bytes) -> str:
    with pytest.raises(Unusable) as raised:
        inspect_file(io.BytesIO(content), max_pixels=PIXELS)
    return str(raised.value)


def no_thumbnail(content: bytes, max_pixels: int = PIXELS) -> str:
    """Why an image has no thumbnail."""
    with pytest.raises(NoThumbnail) as raised:
        small_of(content, max_pixels)
    return str(raised.value)
