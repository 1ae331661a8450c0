"""Bombs, limits and decoders that raise: no file breaks the process or takes its memory."""

from __future__ import annotations

import errno
import io
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from orchestrator.storage import thumbnails
from orchestrator.storage.file_kinds import Unusable
from orchestrator.storage.images import inspect_file, unchecked_file
from orchestrator.storage.thumbnails import MAX_DECODERS, DecodersBusy, NoThumbnail
from tests.storage.pictures import (
    FORMATS,
    PIXELS,
    VALID,
    drawn,
    encoded,
    no_thumbnail,
    seen,
    small_of,
    unchecked,
)


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG of 8 bits grey, from compressed rows."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_bomb_is_kept_and_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(self: ImageFile.ImageFile) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    row = zlib.compressobj(1)
    rows = b"".join(row.compress(bytes(20_001 * 100)) for _ in range(200)) + row.flush()

    claims, holds = png(50_000, 50_000, zlib.compress(b"")), png(20_000, 20_000, rows)

    for look in (unchecked, no_thumbnail):
        assert look(claims) == f"too large: 50000 x 50000 pixels, allowed are {PIXELS}"
        assert look(holds) == f"too large: 20000 x 20000 pixels, allowed are {PIXELS}"


def test_only_our_own_limit_counts() -> None:
    # Decoding an image above Pillow's own limit would take 360 MB.
    assert Image.MAX_IMAGE_PIXELS is None


def test_the_limit_itself_is_allowed() -> None:
    assert seen(VALID["PNG"], max_pixels=320 * 240)[0].width == 320
    assert unchecked(VALID["PNG"], max_pixels=320 * 240 - 1).startswith("too large: 320 x 240")


def test_a_gif_whose_frame_is_larger_than_its_screen_is_measured_by_its_frame() -> None:
    content = bytearray(VALID["GIF"])
    place = content.index(b"\x2c\0\0\0\0" + struct.pack("<HH", 320, 240))
    content[place + 5 : place + 9] = struct.pack("<HH", 65_000, 65_000)

    for look in (unchecked, no_thumbnail):
        assert look(bytes(content)) == f"too large: 65000 x 65000 pixels, allowed are {PIXELS}"


def test_a_complaint_of_a_decoder_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise ValueError("a" * 500)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)

    assert no_thumbnail(VALID["PNG"]) == "cannot be decoded: " + "a" * 80


RAISED = (SyntaxError("x"), ValueError(), struct.error("x"), zlib.error("x"), MemoryError())
RAISED_TOO = (OSError("x"), OSError(errno.EINVAL, "x"), EOFError(), RecursionError(), KeyError("x"))


@pytest.mark.parametrize(
    "error", [*RAISED, *RAISED_TOO], ids=lambda error: f"{type(error).__name__}{error.args}"
)
def test_whatever_a_decoder_raises_is_no_image(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)

    assert no_thumbnail(VALID["PNG"]) == f"cannot be decoded: {str(error) or type(error).__name__}"


def test_a_disk_that_fails_says_nothing_about_the_image() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    for look in (inspect_file, thumbnails.make_thumbnail):
        with pytest.raises(OSError, match="Input/output"):
            look(Failing(VALID["PNG"]), max_pixels=PIXELS)


SMALL = {name: encoded(name, drawn(80, 72)) for name in FORMATS}


@settings(max_examples=120)
@given(data=st.data(), format_=st.sampled_from(sorted(SMALL)))
def test_no_mutation_raises_anything_else(data: st.DataObject, format_: str) -> None:
    content = bytearray(SMALL[format_])
    places = st.integers(0, len(content) - 1)
    early = st.integers(0, min(64, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(places | early)] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(places) :]
    with suppress(Unusable):
        facts = inspect_file(io.BytesIO(bytes(content)), max_pixels=1_000_000)
        assert facts.check_error is not None or (facts.width or 0) >= 64
    with suppress(NoThumbnail):
        assert small_of(bytes(content), 1_000_000)


@settings(max_examples=50)
@given(content=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    with suppress(Unusable):
        assert inspect_file(io.BytesIO(content), max_pixels=PIXELS).check_error
    assert unchecked_file(io.BytesIO(content), "why").check_error == "why"


def test_two_images_are_decoded_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Semaphore(0), threading.Event()
    counting, running, most = threading.Lock(), [0], [0]
    load: Callable[[Any], Any] = ImageFile.ImageFile.load

    def counted(self: ImageFile.ImageFile) -> Any:
        with counting:
            running[0] += 1
            most[0] = max(most[0], running[0])
        begun.release()
        assert go.wait(60)
        try:
            return load(self)
        finally:
            with counting:
                running[0] -= 1

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    content = VALID["PNG"]
    found: list[bytes] = []

    def examine() -> None:
        found.append(small_of(content))

    threads = [threading.Thread(target=examine) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=60)
    assert begun.acquire(timeout=60)
    assert not thumbnails._decoding.acquire(blocking=False)  # no room for a third
    go.set()
    for thread in threads:
        thread.join(60)

    assert (len(found), most[0]) == (8, MAX_DECODERS)


@pytest.mark.parametrize(("pixels", "alone"), [(320 * 240 - 1, True), (320 * 240, False)])
def test_a_large_image_is_decoded_alone(
    monkeypatch: pytest.MonkeyPatch, pixels: int, alone: bool
) -> None:
    alone_now = threading.BoundedSemaphore(1)
    monkeypatch.setattr(thumbnails, "LARGE_PIXELS", pixels)
    monkeypatch.setattr(thumbnails, "DECODER_WAIT_SECONDS", 0)
    monkeypatch.setattr(thumbnails, "_decoding_large", alone_now)
    assert small_of(VALID["PNG"])

    with alone_now:
        if alone:
            with pytest.raises(DecodersBusy):
                small_of(VALID["PNG"])
        else:
            assert small_of(VALID["PNG"])


def test_a_refused_image_makes_room_for_the_next() -> None:
    for _ in range(MAX_DECODERS + 1):
        no_thumbnail(VALID["PNG"][:100])

    assert seen(VALID["PNG"])[0].width == 320
