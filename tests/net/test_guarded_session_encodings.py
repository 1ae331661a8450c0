"""Compressed answers of hosts that others chose."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest

from orchestrator.net import content_encoding
from orchestrator.net.guarded_session import (
    TooLarge,
)
from tests.net.asking import JPEG, MIB, PNG, WEBP, failure, fetch, serve, session, way
from tests.net.dns import names
from tests.net.servers import Peer, Serve, answer, saying

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["names", "serve", "way"]

pytestmark = pytest.mark.usefixtures("way")

_packer = zlib.compressobj(wbits=-15)
#: PNG as plain deflate data, without the header and the checksum of zlib.
PLAIN_DEFLATE = _packer.compress(PNG) + _packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(PNG)),
        ("GZIP", gzip.compress(PNG)),
        ("x-gzip", gzip.compress(PNG[:999]) + gzip.compress(PNG[999:])),
        ("deflate", zlib.compress(PNG)),
        ("deflate", PLAIN_DEFLATE),
        ("gzip, gzip", gzip.compress(gzip.compress(PNG))),
        ("identity, gzip", gzip.compress(PNG)),
        ("aws-chunked,gzip", gzip.compress(PNG)),
        ("gzip,aws-chunked", gzip.compress(PNG)),
        ("gzip", gzip.compress(PNG) + b"and more"),
        ("br", brotli.compress(PNG)),
        ("zstd", zstd.compress(PNG)),
        ("zstd", zstd.compress(PNG[:9]) + zstd.compress(PNG[9:])),
        ("zstd", zstd.compress(PNG) + b"and more"),
        ("gzip, br", brotli.compress(gzip.compress(PNG))),
    ],
)
def test_an_encoding_that_nobody_asked_for_is_taken_off(
    serve: Serve, encoding: str, body: bytes
) -> None:
    got, fetched = fetch(serve(saying(answer(body, f"Content-Encoding: {encoding}"))).url)

    assert got == PNG
    assert fetched.bytes == len(PNG)
    assert fetched.sha256 == hashlib.sha256(PNG).hexdigest()


@pytest.mark.parametrize("body", [PNG, JPEG, WEBP, b""], ids=["PNG", "JPEG", "WebP", "empty"])
@pytest.mark.parametrize(
    "encoding",
    [
        "",
        "aws-chunked",
        "utf-8",
        "binary",
        "none",
        "x",
        "br",
        "zstd",
        "gzip",
        "deflate",
        "gzip, gzip",
    ],
)
def test_a_body_that_is_not_encoded_is_taken_as_it_is(
    serve: Serve, encoding: str, body: bytes
) -> None:
    got, fetched = fetch(serve(saying(answer(body, f"Content-Encoding: {encoding}"))).url)

    assert got == body
    assert (fetched.bytes, fetched.sha256) == (len(body), hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("missing", [1, 9, 100])
@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)]
)
def test_an_encoded_body_that_is_cut_fails(
    serve: Serve, missing: int, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    body = compress(PNG)[:-missing]
    server = serve(saying(answer(body, f"Content-Encoding: {encoding}")))

    assert failure(server.url).reason == "the body broke off: its encoding has no end"


def test_bytes_that_begin_like_plain_deflate_data_are_taken_as_they_are(serve: Serve) -> None:
    body = PLAIN_DEFLATE + b"more"

    assert fetch(serve(saying(answer(body, "Content-Encoding: deflate"))).url)[0] == body


def test_a_body_with_endless_members_is_not_decoded(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_encoding, "MAX_MEMBERS", 10)
    body = gzip.compress(b"x") * 11

    assert fetch(serve(saying(answer(body, "Content-Encoding: gzip"))).url)[0] == body


def bomb(encoding: str) -> bytes:
    """200 MiB of zeros, compressed."""
    zeros = bytes(200 * MIB)
    if encoding == "gzip":
        return gzip.compress(zeros, 9)
    return brotli.compress(zeros, quality=5) if encoding == "br" else zstd.compress(zeros)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_bomb_costs_little_memory_and_is_too_large(serve: Serve, encoding: str) -> None:
    body = bomb(encoding)
    url, by = serve(saying(answer(body, f"Content-Encoding: {encoding}"))).url, session()
    into = io.BytesIO()

    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            by.fetch(url, into, seconds=30, max_bytes=MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(into.getvalue()) <= 3 * MIB
    assert peak < 6 * MIB


def test_a_zstd_window_over_8_mib_is_not_decoded(serve: Serve) -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 24}
    encoder = zstd.ZstdCompressor(options=options)
    body = encoder.compress(PNG) + encoder.flush()

    assert fetch(serve(saying(answer(body, "Content-Encoding: zstd"))).url)[0] == body


def test_an_encoded_body_that_comes_to_nothing_has_an_end(serve: Serve) -> None:
    nothing = gzip.compress(b"") * 1000

    def act(peer: Peer) -> None:
        peer.request()
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        while True:
            peer.say(nothing)

    assert isinstance(failure(serve(act).url, max_bytes=MIB // 4), TooLarge)
