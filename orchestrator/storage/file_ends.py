"""Tells whether the end of a file is there, for each kind of file that is not a checked image.

A function returns False only when the file itself says that more bytes belong to it. A file whose
structure is unclear counts as complete, because a file that was paid for is kept.
"""

from __future__ import annotations

import re

from orchestrator.storage.file_bytes import FileBytes

#: The most parts of a file that are looked at. A file with more parts counts as complete.
MAX_PARTS = 1_000_000
#: A RIFF file that was written to a pipe has a size from here on, or 0. Bytes.
_RIFF_UNKNOWN_SIZE = 0x7FFFF000
#: ISO media files (MP4, HEIC, AVIF, JPEG 2000) need one of these boxes.
_MAIN_BOXES = frozenset({b"moov", b"moof", b"meta", b"jp2c"})
#: A box of these names that ends behind the file is cut. Other bytes may follow a complete file.
_BOXES = _MAIN_BOXES | {b"ftyp", b"mdat", b"free", b"skip", b"uuid", b"sidx", b"mfra", b"idat"}
#: The end of a PDF, a ZIP archive or an SVG is searched in this many last bytes.
_PDF_TAIL_BYTES, _ZIP_TAIL_BYTES, _SVG_TAIL_BYTES = 4096, 65_558, 4096
_SVG_END = re.compile(rb"</(?:\w+:)?svg\s*>")
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
#: The TIFF tags of offsets, and of the lengths at these offsets: strips and tiles.
_TIFF_DATA = ((273, 279), (324, 325))
#: The sizes of the TIFF types SHORT and LONG. Bytes.
_TIFF_SIZES = {3: 2, 4: 4}


def jpeg_2000(content: FileBytes) -> bool:
    """Return whether the end marker of a codestream is there."""
    return content.contains(b"\xff\xd9", len(content) - 64)


def riff(content: FileBytes) -> bool:
    """Return whether the file has the size that it names: WebP, WAV, AVI."""
    size = content.number(4, 4, "<")
    return not 0 < size < _RIFF_UNKNOWN_SIZE or 8 + size <= len(content)


def iso_media(content: FileBytes) -> bool:
    """Return whether every box ends within the file, and a main box is there."""
    offset, has_main_box = 0, False
    for _ in range(MAX_PARTS):
        head = content.part(offset, 16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if len(head) < 8 or 0 < size < 8:
            return has_main_box
        if size > len(content) - offset:
            return has_main_box and name not in _BOXES
        has_main_box = has_main_box or name in _MAIN_BOXES
        if size == 0:
            return True
        offset += size
    return True


def matroska(content: FileBytes) -> bool:
    """Return whether the segment ends within the file: WebM, Matroska."""
    start, size = _element(content, 4)
    if size is None:
        return True
    segment = start + size
    if content.part(segment, 4) != _MATROSKA_SEGMENT:
        return segment + 4 <= len(content)
    start, size = _element(content, segment + 4)
    return size is None or start + size <= len(content)


def _element(content: FileBytes, offset: int) -> tuple[int, int | None]:
    """Return the start and the size of the data of a Matroska element; None: it is unknown.

    `offset` is that of the element's size.
    """
    length = 9 - content.number(offset, 1).bit_length()
    if length > 8:
        return offset, None
    unknown = (1 << 7 * length) - 1
    size = content.number(offset, length) & unknown
    return offset + length, None if size == unknown else size


def tiff(content: FileBytes) -> bool:
    """Return whether the directory, the strips and the tiles end within the file."""
    order = "<" if content.part(0, 1) == b"I" else ">"
    if content.number(2, 2, order) != 42:
        return True  # BigTIFF
    directory = content.number(4, 4, order)
    number = content.number(directory, 2, order)
    if directory + 2 + 12 * number + 4 > len(content) or directory < 8:
        return False
    entries = {
        content.number(entry, 2, order): entry
        for entry in range(directory + 2, directory + 2 + 12 * number, 12)
    }
    for offsets, lengths in _TIFF_DATA:
        if offsets in entries and lengths in entries:
            last = [_last_value(content, entries[tag], order) for tag in (offsets, lengths)]
            if sum(last) > len(content):
                return False
    return True


def _last_value(content: FileBytes, entry: int, order: str) -> int:
    """Return the last number of an entry of a TIFF directory."""
    size = _TIFF_SIZES.get(content.number(entry + 2, 2, order), 0)
    number = content.number(entry + 4, 4, order)
    start = entry + 8 if size * number <= 4 else content.number(entry + 8, 4, order)
    return content.number(start + size * (number - 1), size, order) if size and number else 0


def bmp(content: FileBytes) -> bool:
    """Return whether the file has the size that it names."""
    return content.number(2, 4, "<") <= len(content)


def gltf(content: FileBytes) -> bool:
    """Return whether the file has the size that it names."""
    return content.number(8, 4, "<") <= len(content)


def pdf(content: FileBytes) -> bool:
    """Return whether the end marker is there."""
    return content.contains(b"%%EOF", len(content) - _PDF_TAIL_BYTES)


def zip_archive(content: FileBytes) -> bool:
    """Return whether the end of the directory is there."""
    return content.contains(b"PK\x05\x06", len(content) - _ZIP_TAIL_BYTES)


def svg(content: FileBytes) -> bool:
    """Return whether the root element ends."""
    tail = content.part(max(len(content) - _SVG_TAIL_BYTES, 0), _SVG_TAIL_BYTES)
    text = tail.replace(b"\0", b"").rstrip()
    return bool(_SVG_END.search(text)) or text.endswith((b"/>", b"-->"))
