"""Images that are none, or far more than they seem."""

import gzip
import struct
import zlib
from functools import cache

#: what `pixel_bomb` claims to be, in pixels each way
CLAIMED = 50_000
#: bytes of zeros in one member of the gzip bomb, and how many members there are: 1 GiB
_MEMBER = 16 * 1024 * 1024
_MEMBERS = 64


@cache
def pixel() -> bytes:
    """A PNG of one grey pixel."""
    return _png(1, zlib.compress(b"\0\x80"))


@cache
def pixel_bomb() -> bytes:
    """A small PNG whose header claims an image of gigabytes; the pixels soon end."""
    return _png(CLAIMED, zlib.compress(bytes(4 * 1024 * 1024)))


@cache
def zeros() -> bytes:
    """A gigabyte of zeros, compressed: gzip allows one member after another."""
    return gzip.compress(bytes(_MEMBER), mtime=0) * _MEMBERS


def gzip_bomb(image: bytes) -> bytes:
    """A true image with a gigabyte of zeros behind it, compressed."""
    return gzip.compress(image, mtime=0) + zeros()


def _png(side: int, pixels: bytes) -> bytes:
    # Eight bits of grey for a pixel.
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
