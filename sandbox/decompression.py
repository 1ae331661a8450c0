"""Images that are too small, or that become very large when they are unpacked."""

import gzip
import struct
import zlib
from functools import cache

#: Side of the image that the header of `pixel_bomb` claims. Pixels.
CLAIMED_SIDE_PIXELS = 50_000
#: Zeros in one member of the gzip bomb, in bytes, and the number of members: 1 GiB together.
_MEMBER_BYTES = 16 * 1024 * 1024
_MEMBER_COUNT = 64


@cache
def pixel() -> bytes:
    """Return a PNG of one grey pixel."""
    return png(1, zlib.compress(b"\0\x80"))


@cache
def pixel_bomb() -> bytes:
    """Return a small PNG. Its header claims an image of gigabytes, but its pixels end early."""
    return png(CLAIMED_SIDE_PIXELS, zlib.compress(bytes(4 * 1024 * 1024)))


@cache
def zeros() -> bytes:
    """Return 1 GiB of zeros, compressed. A gzip file may have many members."""
    return gzip.compress(bytes(_MEMBER_BYTES), mtime=0) * _MEMBER_COUNT


def gzip_bomb(image: bytes) -> bytes:
    """Return a real image and 1 GiB of zeros after it, compressed."""
    return gzip.compress(image, mtime=0) + zeros()


def png(side: int, pixels: bytes, *, bits: int = 8) -> bytes:
    """Return a grey PNG with this side and these compressed lines, of one byte and pixels each."""
    header = struct.pack(">IIBBBBB", side, side, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
