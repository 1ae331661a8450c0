"""Decodes a body that was sent with `Content-Encoding`, although we ask for none.

Storages and CDNs put many words into that header that are no coding: an empty value, `aws-chunked`,
`utf-8`, `binary`. They are ignored. A body that does not decode is taken as it is.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from typing import BinaryIO

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP = 16 + zlib.MAX_WBITS
#: The largest window of a zstd body (RFC 9659), as a power of two. It bounds the memory: 8 MiB.
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: The most codings of one body. A longer list is not decoded.
MAX_CODINGS = 3
#: The most members of a gzip or zstd body. A body with more is not decoded.
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
    known = [name for name in reversed(names) if name in _DECODERS]
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
        attempts = (_decoded(file, decoder, max_bytes) for decoder in _DECODERS[name])
        decoded = next(filter(None, attempts), None)
        result = decoded or result
    return result


def _decoded(file: BinaryIO, decoder: _Decoder, max_bytes: int) -> tuple[int, str] | None:
    """Write the decoded bytes behind the encoded ones. Then move them to the start."""
    end = file.seek(0, 2)
    length = 0
    try:
        for part in decoder(_parts(file, end)):
            length += len(part)
            if length > max_bytes:
                raise DecodedTooLarge
            file.seek(0, 2)
            file.write(part)
    except _NotEncoded:
        file.truncate(end)
        return None
    return length, _moved(file, end, length)


def _parts(file: BinaryIO, end: int) -> Iterator[bytes]:
    """Yield the first `end` bytes of a file in parts."""
    for offset in range(0, end, _READ_BYTES):
        file.seek(offset)
        yield file.read(min(_READ_BYTES, end - offset))


def _inflated(parts: Iterator[bytes], wbits: int) -> Iterator[bytes]:
    """Decode gzip, zlib or deflate."""
    decoder, members, begun = zlib.decompressobj(wbits), 1, False
    for part in parts:
        begun, rest = True, part
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
        raise BodyTruncated if wbits > 0 and begun else _NotEncoded


def _brotli_decoded(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Decode Brotli. It has no magic number, so data without an end is no proof of the coding."""
    decoder = brotli.Decompressor()
    try:
        for part in parts:
            decoded = decoder.process(part, output_buffer_limit=_DECODED_BYTES)
            while decoded or not decoder.can_accept_more_data():
                yield decoded
                decoded = b""
                if not decoder.is_finished():
                    decoded = decoder.process(b"", output_buffer_limit=_DECODED_BYTES)
    except brotli.error:
        raise _NotEncoded from None
    if not decoder.is_finished():
        raise _NotEncoded


def _zstd_decoded(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Decode Zstandard."""
    decoder, members, begun = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS), 1, False
    for part in parts:
        rest = part
        while rest or not (decoder.eof or decoder.needs_input):
            if decoder.eof:
                if members == MAX_MEMBERS:
                    raise _NotEncoded
                if not _ZSTD_MAGIC.startswith(rest[:4]):
                    return  # other bytes after the end belong to nothing
                decoder, members = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS), members + 1
            try:
                yield decoder.decompress(rest, _DECODED_BYTES)
            except zstd.ZstdError:
                raise _NotEncoded from None
            begun, rest = True, decoder.unused_data if decoder.eof else b""
    if not decoder.eof:
        raise BodyTruncated if begun else _NotEncoded


_Decoder = Callable[[Iterator[bytes]], Iterator[bytes]]

#: The codings that we decode, and the variants of their format that servers send.
_DECODERS: dict[str, tuple[_Decoder, ...]] = {
    "gzip": (partial(_inflated, wbits=_GZIP),),
    "x-gzip": (partial(_inflated, wbits=_GZIP),),
    "deflate": (
        partial(_inflated, wbits=zlib.MAX_WBITS),
        partial(_inflated, wbits=-zlib.MAX_WBITS),
    ),
    "br": (_brotli_decoded,),
    "zstd": (_zstd_decoded,),
}


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
