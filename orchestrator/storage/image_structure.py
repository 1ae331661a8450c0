"""Tells whether an image is whole, and how large it is, by its structure. No pixel is decoded.

Each function follows the parts of a file to its end. It raises `Truncated` only when the file
itself says that more bytes belong to it, and its end is nowhere. A file with another fault is
`Damaged`: it is kept, because another download gives the same bytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.storage import file_ends
from orchestrator.storage.file_bytes import FileBytes

#: The most parts of an image. An image with more is damaged.
MAX_PARTS = 200_000
#: The checksum of a chunk is computed over this many bytes at a time.
_CHECKSUM_BYTES = 1024 * 1024
#: The last chunk of every PNG: no data, its name and its checksum.
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
#: This much of the last chunk proves that no other chunk was to follow. Bytes.
_PNG_END_BYTES = 6
_PNG_NAME = re.compile(rb"[A-Za-z]{4}")
#: The bit depths that a PNG may have, by its colour type.
_PNG_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
#: The largest length of a chunk and of a side.
_PNG_MAX = 2**31 - 1
#: A marker that ends the pixels of a JPEG. Among pixels, FF is followed by 00 or a restart marker.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = b"\xff\xda"
#: The most scans of a JPEG that is decoded. A progressive one has about ten. Each takes up to a
#: third of a second.
MAX_SCANS = 100
#: The segments of a JPEG that have its size, and the markers without a length.
_JPEG_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
#: The markers of the segment that may have EXIF data, and of the one before pixels.
_APP1, _SCAN = 0xE1, 0xDA
_EXIF = b"Exif\0\0"
#: The longest EXIF data that is searched. Bytes.
_MAX_EXIF_BYTES = 65_536
#: The EXIF tag of the orientation, and its type: SHORT.
_ORIENTATION, _SHORT = 0x0112, 3


class Truncated(Exception):
    """The end of the file is missing."""


class Damaged(Exception):
    """The structure of the file is wrong. The message says where."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height of an image, pixels. An EXIF orientation may exchange them."""

    width: int
    height: int

    def turned(self, orientation: int) -> Size:
        """Return the size after an EXIF orientation."""
        return Size(self.height, self.width) if 5 <= orientation <= 8 else self


def png(content: FileBytes) -> Size:
    """Follow the chunks of a PNG and check their checksums.

    Raises:
        Truncated: the last chunk is missing.
        Damaged: a chunk or the header is wrong, or there are no pixels.
    """
    size, orientation, pixels = Size(0, 0), 1, False
    for offset, length, name in _png_chunks(content):
        if offset == 8:
            size = _png_header(name, content.part(offset + 8, length))
        if name == b"eXIf":
            orientation = _orientation(content.part(offset + 8, min(length, _MAX_EXIF_BYTES)))
        if name == b"IDAT" and not pixels:
            pixels, head = True, content.number(offset + 8, 2)
            if length > 1 and (head % 31 or head >> 8 & 15 != 8):
                raise Damaged("the pixels of the PNG are not compressed by its rules")
        if name == b"IEND" and not pixels:
            raise Damaged("the PNG has no pixels")
    return size.turned(orientation)


def _png_chunks(content: FileBytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield offset, length of the data and name of each chunk, once its checksum is right."""
    offset = 8
    for _ in range(MAX_PARTS):
        head = content.part(offset, len(_PNG_END))
        if len(head) >= _PNG_END_BYTES and _PNG_END.startswith(head):
            yield offset, 0, b"IEND"
            return
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if offset + 12 + length > len(content):
            if content.contains(_PNG_END):
                raise Damaged("a chunk of the PNG is longer than the file")
            raise Truncated
        if length > _PNG_MAX or not _PNG_NAME.fullmatch(name):
            raise Damaged("the PNG has a chunk without a name")
        if _checksum(content, offset + 4, 4 + length) != content.number(offset + 8 + length, 4):
            raise Damaged(f"the checksum of a chunk {name.decode()} of the PNG is wrong")
        yield offset, length, name
        offset += 12 + length
    raise Damaged("the PNG has too many chunks")


def _checksum(content: FileBytes, offset: int, length: int) -> int:
    checksum, end = 0, offset + length
    for start in range(offset, end, _CHECKSUM_BYTES):
        part = content.part(start, min(_CHECKSUM_BYTES, end - start))
        checksum = zlib.crc32(part, checksum)
    return checksum


def _png_header(name: bytes, data: bytes) -> Size:
    wrong = Damaged("the header of the PNG is wrong")
    if name != b"IHDR" or len(data) != 13:
        raise wrong
    width, height = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    depth, colour, *methods, interlaced = data[8:]
    sides = 0 < width <= _PNG_MAX and 0 < height <= _PNG_MAX
    if not sides or depth not in _PNG_DEPTHS.get(colour, ()) or any(methods) or interlaced > 1:
        raise wrong
    return Size(width, height)


def jpeg(content: FileBytes) -> Size:
    """Follow the markers of a JPEG to its end marker.

    Raises:
        Truncated: the end marker is missing.
        Damaged: a marker is wrong, or there is no size.
    """
    size, orientation, pixels = Size(0, 0), 1, False
    for offset, length, marker in _jpeg_segments(content):
        if marker in _JPEG_SIZES:
            size = _jpeg_size(content.part(offset + 4, 5))
        elif marker == _APP1 and orientation == 1:
            orientation = _orientation(content.part(offset + 4, length - 2))
        elif marker == _SCAN:
            pixels = True
        if pixels and not size.width:
            raise Damaged("the JPEG has no size before its pixels")
    if not pixels:
        raise Damaged("the JPEG has no pixels")
    return size.turned(orientation)


def _jpeg_segments(content: FileBytes) -> Iterator[tuple[int, int, int]]:
    """Yield offset, length and marker of each segment, and step over the pixels behind it."""
    offset, scan = 2, 0
    for _ in range(MAX_PARTS):
        head = content.part(offset, 4)
        if head[:2] == _JPEG_END:
            return
        if len(head) == 4 and head[0] != 0xFF:
            raise Damaged("the JPEG has no marker where one belongs")
        if len(head) == 4 and (head[1] in _JPEG_BARE or head[1] == 0xFF):
            offset += 1 if head[1] == 0xFF else 2
            continue
        length = int.from_bytes(head[2:], "big")
        if len(head) < 4 or offset + 2 + length > len(content):
            if scan and content.contains(_JPEG_END, scan):
                raise Damaged("a segment of the JPEG is longer than the file")
            raise Truncated
        yield offset, length, head[1]
        offset += 2 + length
        if head[1] == _SCAN:
            scan, marker = offset, content.find(_JPEG_MARKER, offset)
            if marker is None:
                raise Truncated
            offset = marker
    raise Damaged("the JPEG has too many segments")


def _jpeg_size(data: bytes) -> Size:
    height, width = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
    if len(data) < 5 or not width or not height:
        raise Damaged("the size of the JPEG is wrong")
    return Size(width, height)


def has_many_scans(content: FileBytes) -> bool:
    """Return whether a JPEG has so many scans that to decode it takes minutes or hours."""
    if content.count(_JPEG_SCAN) <= MAX_SCANS:
        return False
    try:
        scans = sum(marker == _SCAN for _, _, marker in _jpeg_segments(content))
    except (Truncated, Damaged):
        return True
    return scans > MAX_SCANS


def webp(content: FileBytes) -> Size:
    """Follow the chunks of a WebP image.

    Raises:
        Truncated: the file is shorter than it says.
        Damaged: a chunk is wrong, or there are no pixels.
    """
    if not file_ends.riff(content):
        raise Truncated
    end = min(8 + content.number(4, 4, "<"), len(content))
    canvas: Size | None = None
    picture: Size | None = None
    orientation, offset = 1, 12
    for _ in range(MAX_PARTS):
        if offset + 8 > end:
            break
        name, length = content.part(offset, 4), content.number(offset + 4, 4, "<")
        if offset + 8 + length > end:
            raise Damaged("a chunk of the WebP image is longer than the file")
        data = content.part(offset + 8, 24)
        if name == b"VP8X":
            canvas = Size(_little(data[4:7]) + 1, _little(data[7:10]) + 1)
        elif name == b"EXIF":
            exif = content.part(offset + 8, min(length, _MAX_EXIF_BYTES))
            orientation = _orientation(exif)
        elif picture is None and name in _WEBP_SIZES:
            picture = _WEBP_SIZES[name](data[:length])
        offset += 8 + length + length % 2
    size = canvas or picture
    if picture is None or size is None:
        raise Damaged("the WebP image has no pixels")
    return size.turned(orientation)


def _lossy(data: bytes) -> Size:
    if data[3:6] != b"\x9d\x01\x2a" or len(data) < 10:
        raise Damaged("the first frame of the WebP image is wrong")
    return Size(_little(data[6:8]) & 0x3FFF, _little(data[8:10]) & 0x3FFF)


def _lossless(data: bytes) -> Size:
    if data[:1] != b"\x2f" or len(data) < 5:
        raise Damaged("the first frame of the WebP image is wrong")
    bits = _little(data[1:5])
    return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)


def _animated(data: bytes) -> Size:
    return Size(_little(data[6:9]) + 1, _little(data[9:12]) + 1)


_WEBP_SIZES: Mapping[bytes, Callable[[bytes], Size]] = {
    b"VP8 ": _lossy,
    b"VP8L": _lossless,
    b"ANMF": _animated,
}


def gif(content: FileBytes) -> Size:
    """Follow the blocks of a GIF. The last two bytes may be missing: they end the file only.

    The size is that of the screen, or of the first frame if that is larger.

    Raises:
        Truncated: a block is cut.
        Damaged: there is no frame, or a block has no known name.
    """
    width, height = content.number(6, 2, "<"), content.number(8, 2, "<")
    offset, frames, parts = 13 + _colours(content.number(10, 1)), 0, iter(range(MAX_PARTS))
    for _ in parts:
        block = content.part(offset, 10)
        if block[:1] == b"\x2c":
            if len(block) == 10 and not frames:
                width = max(width, _little(block[1:3]) + _little(block[5:7]))
                height = max(height, _little(block[3:5]) + _little(block[7:9]))
            frames += 1
            offset += 11 + _colours(block[9] if len(block) == 10 else 0)
        elif block[:1] == b"\x21":
            offset += 2
        elif offset > len(content):
            raise Truncated
        elif block[:1] not in {b"\x3b", b""} or not frames or not width or not height:
            raise Damaged("the GIF has a wrong block, or no frame")
        else:
            return Size(width, height)
        for _ in parts:
            length = content.number(offset, 1)
            offset += 1 + length if offset < len(content) else 0
            if length == 0:
                break
    raise Damaged("the GIF has too many blocks")


def _colours(flags: int) -> int:
    """Return the length of a colour table of a GIF, bytes."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def avif(content: FileBytes) -> Size:
    """Follow the boxes of an AVIF image. Its size is that of its largest picture.

    Raises:
        Truncated: a box is cut, or a main box is missing.
        Damaged: there is no size.
    """
    if not file_ends.iso_media(content):
        raise Truncated
    sizes, turn = [Size(0, 0)], 0
    for name, start, end in _properties(content):
        if name == b"ispe" and end - start >= 12:
            sizes.append(Size(content.number(start + 4, 4), content.number(start + 8, 4)))
        elif name == b"irot":
            turn = content.number(start, 1)
    size = max(sizes, key=lambda each: each.width * each.height)
    if not size.width:
        raise Damaged("the AVIF image has no size")
    return size.turned(6 if turn % 2 else 1)


def _properties(content: FileBytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the data of each property of the pictures of an AVIF image."""
    parts = iter(range(MAX_PARTS))
    for name, start, stop in _boxes(content, 0, len(content), parts):
        if name == b"meta":
            for inner, begin, until in _boxes(content, start + 4, stop, parts):
                if inner == b"iprp":
                    for last, first, over in _boxes(content, begin, until, parts):
                        if last == b"ipco":
                            yield from _boxes(content, first, over, parts)


def _boxes(
    content: FileBytes, start: int, end: int, parts: Iterator[int]
) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the data of each box between two offsets. `parts` is shared."""
    for _ in parts:
        head = content.part(start, 16)
        size, name, inner = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, inner = int.from_bytes(head[8:], "big"), 16
        size = size or end - start
        if len(head) < 8 or size < inner or start + size > end:
            return
        yield name, start + inner, start + size
        start += size


def _orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data; 1 if it has none that can be read."""
    tiff = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1

    def number(offset: int, size: int) -> int:
        return int.from_bytes(tiff[offset : offset + size], "big" if order == ">" else "little")

    directory = number(4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if number(entry, 2) == _ORIENTATION and number(entry + 2, 2) == _SHORT:
            return number(entry + 8, 2)
        if entry > len(tiff):
            break
    return 1


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


#: The images whose structure is checked, by the name of their kind.
MEASURES: Mapping[str, Callable[[FileBytes], Size]] = {
    "PNG": png,
    "JPEG": jpeg,
    "GIF": gif,
    "WEBP": webp,
    "AVIF": avif,
}
