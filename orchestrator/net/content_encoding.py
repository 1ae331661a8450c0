"""Decodes a body that was sent with `Content-Encoding`, although we ask for none.

Storages and CDNs put many words into that header that are no coding: an empty value, `aws-chunked`,
`utf-8`, `binary`. They are ignored. A body that does not decode is taken as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from hashlib import sha256
from typing import BinaryIO

_GZIP = 16 + zlib.MAX_WBITS
#: The codings that we decode, and the variants of their format that servers send.
_WBITS = {
    "gzip": (_GZIP,),
    "x-gzip": (_GZIP,),
    "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),
}
#: The most codings of one body. A longer list is not decoded.
MAX_CODINGS = 3
#: The most members of a gzip body. A body with more is not decoded.
MAX_MEMBERS = 100_000
#: The size of the parts in which a file is read, and of the decoded parts. Bytes.
_READ_BYTES = 16 * 1024
_DECODED_BYTES = 256 * 1024


class BodyTruncated(Exception):
    """The encoded body ends too early."""


class DecodedTooLarge(Exception):
    """The decoded body has more bytes than allowed."""


class _NotEncoded(Exception):
    """The body is not in this coding."""


def codings(header: str) -> list[str]:
    """Return the codings of a Content-Encoding header that we decode, the outermost one first."""
    names = [name.strip().lower() for name in header.split(",")]
    known = [name for name in reversed(names) if name in _WBITS]
    return known if len(known) <= MAX_CODINGS else []


def decode_file(file: BinaryIO, encoded: list[str], *, max_bytes: int) -> tuple[int, str] | None:
    """Decode a file in its place. Return its new length and SHA-256 in hex.

    Args:
        file: the encoded body, from its start to its end.
        encoded: the codings, the outermost one first.
        max_bytes: the largest decoded body.

    Returns:
        None when the file is not in these codings. Then it is unchanged.

    Raises:
        BodyTruncated: the encoded body ends too early.
        DecodedTooLarge: the decoded body has more than `max_bytes`.
    """
    result = None
    for name in encoded:
        decoded = next(filter(None, (_decoded(file, w, max_bytes) for w in _WBITS[name])), None)
        result = decoded or result
    return result


def _decoded(file: BinaryIO, wbits: int, max_bytes: int) -> tuple[int, str] | None:
    """Write the decoded bytes behind the encoded ones. Then move them to the start."""
    end = file.seek(0, 2)
    length = 0
    try:
        for part in _inflated(file, end, wbits):
            length += len(part)
            if length > max_bytes:
                raise DecodedTooLarge
            file.seek(0, 2)
            file.write(part)
    except _NotEncoded:
        file.truncate(end)
        return None
    return length, _moved(file, end, length)


def _inflated(file: BinaryIO, end: int, wbits: int) -> Iterator[bytes]:
    """Yield the decoded parts of the first `end` bytes of a file."""
    decoder, members = zlib.decompressobj(wbits), 1
    for offset in range(0, end, _READ_BYTES):
        file.seek(offset)
        rest = file.read(min(_READ_BYTES, end - offset))
        while rest:
            if decoder.eof:
                if wbits < 0 or members == MAX_MEMBERS:
                    raise _NotEncoded
                if wbits != _GZIP or not rest.startswith(b"\x1f"):
                    return  # other bytes after the end belong to nothing
                decoder, members = zlib.decompressobj(wbits), members + 1
            try:
                yield decoder.decompress(rest, _DECODED_BYTES)
            except zlib.error:
                raise _NotEncoded from None
            rest = decoder.unconsumed_tail or decoder.unused_data
    if not decoder.eof:
        # Almost any bytes can be the start of plain deflate data. They are no proof of a coding.
        raise BodyTruncated if wbits > 0 and end else _NotEncoded


def _moved(file: BinaryIO, start: int, length: int) -> str:
    """Move the last `length` bytes of a file to its start. Return their SHA-256 in hex."""
    digest = sha256()
    for offset in range(0, length, _DECODED_BYTES):
        file.seek(start + offset)
        part = file.read(min(_DECODED_BYTES, length - offset))
        digest.update(part)
        file.seek(offset)
        file.write(part)
    file.truncate(length)
    return digest.hexdigest()
