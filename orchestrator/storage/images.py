"""Checks a file that was paid for, without decoding it.

An image is checked when its structure is whole to its end: see image_structure.py. Another file, or
an image with a fault, is kept as it is, with the reason. Only an error page, an empty file and a
truncated file are refused, because another download may give the right file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from orchestrator.storage.file_bytes import FileBytes
from orchestrator.storage.file_kinds import (
    KINDS,
    FileKind,
    Unusable,
    check_end,
    identify,
    truncated,
)
from orchestrator.storage.image_structure import Damaged, Size, Truncated

#: An image with a shorter side may be a placeholder, such as a tracking pixel, and is not checked.
#: Pixels.
MIN_SIDE_PIXELS = 64


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a check found out about a file.

    `width` and `height` are pixels after the EXIF orientation, or None. `check_error` is the reason
    why the file is not a checked image.
    """

    content_type: str
    extension: str
    width: int | None = None
    height: int | None = None
    check_error: str | None = None


def inspect_file(file: BinaryIO, *, max_pixels: int) -> FileFacts:
    """Check a file: follow the structure of a PNG, JPEG, WebP, GIF or AVIF image to its end.

    Args:
        file: is read from its start.
        max_pixels: the most that width times height of a checked image may be.

    Raises:
        Unusable: the file is an error page, empty or truncated.
        OSError: the disk failed.
    """
    kind = identify(file)
    if kind.measure is None:
        check_end(file, kind)
        return FileFacts(kind.content_type, kind.extension, check_error=_other(file, kind))
    try:
        size = kind.measure(FileBytes(file))
    except Truncated:
        raise truncated(kind) from None
    except Damaged as reason:
        return FileFacts(kind.content_type, kind.extension, check_error=f"damaged: {reason}")
    fault = _fault(size, max_pixels)
    return FileFacts(kind.content_type, kind.extension, size.width, size.height, fault)


def unchecked_file(file: BinaryIO, reason: str) -> FileFacts:
    """Return the facts of a file that is kept although `inspect_file` refused it."""
    try:
        kind = identify(file)
    except Unusable:
        kind = KINDS["unknown"]
    return FileFacts(kind.content_type, kind.extension, check_error=reason)


def _other(file: BinaryIO, kind: FileKind) -> str:
    if kind is KINDS["unknown"]:
        return f"unknown kind of file: it begins with {FileBytes(file).part(0, 8).hex(' ')}"
    return f"not a PNG, JPEG, WebP, GIF or AVIF image: {kind.name}"


def _fault(size: Size, max_pixels: int) -> str | None:
    """Return why a whole image is not checked, or None."""
    sides = f"{size.width} x {size.height} pixels"
    if size.width < MIN_SIDE_PIXELS or size.height < MIN_SIDE_PIXELS:
        return f"too small: {sides}, a side is shorter than {MIN_SIDE_PIXELS}"
    if size.width * size.height > max_pixels:
        return f"too large: {sides}, allowed are {max_pixels}"
    return None
