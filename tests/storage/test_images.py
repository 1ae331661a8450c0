"""What counts as a checked image, what is kept unchecked, and what is refused."""

from __future__ import annotations

import errno
import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from orchestrator.storage import images
from orchestrator.storage.file_kinds import Unusable
from orchestrator.storage.images import (
    MAX_DECODERS,
    THUMBNAIL_PIXELS,
    FileFacts,
    inspect_file,
    unchecked_file,
)

PIXELS = 50_000_000
FORMATS = {
    "PNG": ("image/png", "png"),
    "JPEG": ("image/jpeg", "jpg"),
    "WEBP": ("image/webp", "webp"),
    "GIF": ("image/gif", "gif"),
    "AVIF": ("image/avif", "avif"),
}


def drawn(width: int = 320, height: int = 240, mode: str = "RGB") -> Image.Image:
    """Noise in a gradient, dark at its top left and bright at its right."""
    noise = Image.frombytes("L", (64, 64), bytes(i * i * 31 % 251 for i in range(4096)))
    ramp = Image.linear_gradient("L").rotate(90).resize((width, height))
    red = Image.blend(ramp, noise.resize((width, height)), 0.1)
    picture = Image.merge("RGB", (red, ramp, ramp.transpose(Image.Transpose.FLIP_TOP_BOTTOM)))
    return picture.convert(mode)


def encoded(format_: str, picture: Image.Image | None = None, **options: Any) -> bytes:
    written = io.BytesIO()
    (picture or drawn()).save(written, format_, **options)
    return written.getvalue()


VALID = {name: encoded(name) for name in FORMATS}
VALID["progressive JPEG"] = encoded("JPEG", drawn(1100, 600), progressive=True)
VALID["large JPEG"] = encoded("JPEG", drawn(1100, 600))
VALID["lossless WEBP"] = encoded("WEBP", lossless=True)


def seen(content: bytes, max_pixels: int = PIXELS) -> tuple[FileFacts, Image.Image]:
    facts = inspect_file(io.BytesIO(content), max_pixels=max_pixels)
    assert facts.check_error is None
    assert facts.thumbnail is not None
    small = Image.open(io.BytesIO(facts.thumbnail), formats=["WEBP"])
    small.load()
    return facts, small


def unchecked(content: bytes, max_pixels: int = PIXELS) -> str:
    """Why a file is kept although it is not checked."""
    facts = inspect_file(io.BytesIO(content), max_pixels=max_pixels)
    assert facts.thumbnail is None
    assert facts.check_error is not None
    return facts.check_error


def refusal(content: bytes, max_pixels: int = PIXELS) -> str:
    with pytest.raises(Unusable) as raised:
        inspect_file(io.BytesIO(content), max_pixels=max_pixels)
    return str(raised.value)


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_is_known_by_its_bytes(format_: str) -> None:
    picture, small = seen(VALID[format_])

    content_type, extension = FORMATS[format_]
    assert (picture.content_type, picture.extension) == (content_type, extension)
    assert (picture.width, picture.height) == (320, 240)
    assert small.size == (256, 192)


@pytest.mark.parametrize(
    ("size", "thumbnail"),
    [((1024, 1024), (256, 256)), ((64, 2048), (8, 256)), ((100, 70), (100, 70))],
)
@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_a_thumbnail_fits_its_side_and_is_never_larger_than_the_image(
    format_: str, size: tuple[int, int], thumbnail: tuple[int, int]
) -> None:
    picture, small = seen(encoded(format_, drawn(*size)))

    assert (picture.width, picture.height) == size
    assert small.size == thumbnail
    assert max(small.size) <= THUMBNAIL_PIXELS


def test_a_file_is_read_from_its_start_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(VALID["PNG"])
    with (tmp_path / "file").open("rb") as file:
        file.read(100)
        for _ in range(2):
            assert inspect_file(file, max_pixels=PIXELS).content_type == "image/png"
            file.read(100)


def close(small: Image.Image, expected: Image.Image) -> bool:
    """Whether two pictures look alike, by the average difference of their samples."""
    one, other = small.convert("RGB"), expected.convert("RGB").resize(small.size)
    apart = [abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True)]
    return sum(apart) / len(apart) < 8


@pytest.mark.parametrize(
    ("format_", "mode"),
    [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGBA"), ("GIF", "P"), ("AVIF", "RGBA")],
)
def test_every_mode_looks_the_same_in_its_thumbnail(format_: str, mode: str) -> None:
    if mode == "I;16":
        levels = drawn(mode="L").tobytes()
        wide = b"".join(struct.pack("<H", level * 256) for level in levels)
        picture = Image.frombytes("I;16", (320, 240), wide)
        expected = drawn(mode="L")
    else:
        picture = expected = drawn(mode=mode)

    small = seen(encoded(format_, picture))[1]

    assert close(small, expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_transparent_stays_so(mode: str) -> None:
    picture = drawn(mode=mode)
    picture.putalpha(Image.new("L", picture.size, 64))

    small = seen(encoded("PNG", picture))[1]

    assert small.mode == "RGBA"
    assert abs(small.getchannel("A").getpixel((9, 9)) - 64) < 3  # type: ignore[operator]


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_colour_that_stands_for_nothing_is_transparent(mode: str) -> None:
    picture = Image.new(mode, (320, 240), 0 if mode != "RGB" else (0, 0, 0))
    transparent: Any = (0, 0, 0) if mode == "RGB" else 0

    small = seen(encoded("PNG", picture, transparency=transparent))[1]

    assert small.getpixel((9, 9)) == (0, 0, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_exif_turns_thumbnail_and_sides(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(format_, drawn(), exif=exif)

    picture, small = seen(content)

    turned = drawn()
    if orientation in images._TURNS:
        turned = turned.transpose(EXPECTED[orientation])
    assert (picture.width, picture.height) == turned.size
    assert close(small, turned)


T = Image.Transpose
#: From the EXIF standard: where row 0 and column 0 of what is stored belong.
EXPECTED = {2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE}
EXPECTED |= {6: T.ROTATE_270, 7: T.TRANSVERSE, 8: T.ROTATE_90}


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # which Pillow warns of
def test_exif_that_cannot_be_read_does_not_break_the_image(exif: bytes) -> None:
    assert seen(encoded("JPEG", exif=exif))[0].width == 320


def test_an_orientation_that_exif_does_not_know_is_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99

    assert seen(encoded("JPEG", exif=exif))[0].width == 320


@pytest.mark.parametrize("size", [(1, 1), (25, 14), (63, 64), (64, 63), (63, 4000)])
def test_small_pictures_are_kept_unchecked(size: tuple[int, int]) -> None:
    width, height = size

    facts = inspect_file(io.BytesIO(encoded("PNG", Image.new("RGB", size))), max_pixels=PIXELS)

    reason = f"too small: {width} x {height} pixels, a side is shorter than 64"
    assert facts == FileFacts("image/png", "png", width, height, check_error=reason)
    assert seen(encoded("PNG", Image.new("RGB", (64, 64))))[1].size == (64, 64)


def test_a_picture_of_several_pictures_is_a_jpeg() -> None:
    content = encoded("MPO", save_all=True, append_images=[drawn(400, 300)])

    facts, small = seen(content)

    assert (facts.content_type, facts.extension) == ("image/jpeg", "jpg")
    assert (facts.width, facts.height, small.size) == (320, 240, (256, 192))


def test_a_png_may_hold_much_compressed_text() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 3_000_000, zip=True)
    text.add_itxt("prompt", "y" * 3_000_000, zip=True)

    assert seen(encoded("PNG", pnginfo=text))[0].width == 320


@pytest.mark.parametrize("name", VALID)
def test_a_file_that_was_cut_is_refused(name: str) -> None:
    for tenths in range(10):
        content = VALID[name]

        said = refusal(content[: len(content) * tenths // 10])

        kind = name.rsplit(maxsplit=1)[-1]
        expected = (
            f"truncated: the end of the {kind} file is missing" if tenths else "an empty file"
        )
        assert said == expected


#: How many bytes may be missing at the end while every pixel is there. PNG: the IEND chunk (12), a
#: checksum (4), and what its compression pads; GIF: its trailer and the end of its data.
TOLERATED = {"PNG": 30, "GIF": 2}


@pytest.mark.parametrize("name", VALID)
def test_a_missing_tail_is_refused(name: str) -> None:
    for missing in [1, 2, 3, 5, 31, 64, 200]:
        if missing > TOLERATED.get(name, 0):
            assert refusal(VALID[name][:-missing])
        else:
            seen(VALID[name][:-missing])


@pytest.mark.parametrize("name", VALID)
def test_garbage_after_the_image_is_nothing_to_us(name: str) -> None:
    assert seen(VALID[name] + b"\r\n<html>garbage" * 100)[0].width


def test_cut_files_are_not_patched_up() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("name", ["PNG", "GIF", "WEBP"])
def test_a_complete_file_that_cannot_be_decoded_is_kept_unchecked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise ValueError("an unknown filter")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)

    assert unchecked(VALID[name]) == "cannot be decoded: an unknown filter"
    assert refusal(VALID[name][:-300]).startswith("truncated: ")


def test_corrupt_pixels_are_kept_unchecked() -> None:
    content = bytearray(VALID["PNG"])
    content[len(content) // 2] ^= 0xFF

    assert unchecked(bytes(content)).startswith("cannot be decoded: ")


def test_a_gif_is_refused_when_a_later_frame_is_cut() -> None:
    content = encoded("GIF", save_all=True, append_images=[drawn().rotate(90)])

    assert seen(content)[0].width == 320
    assert refusal(content[:-300]) == "truncated: the end of the GIF file is missing"


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

    claims = unchecked(png(50_000, 50_000, zlib.compress(b"")))
    holds = unchecked(png(20_000, 20_000, rows))

    assert claims == f"too large: 50000 x 50000 pixels, allowed are {PIXELS}"
    assert holds == f"too large: 20000 x 20000 pixels, allowed are {PIXELS}"


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

    assert unchecked(bytes(content)) == f"too large: 65000 x 65000 pixels, allowed are {PIXELS}"


def test_a_complaint_of_a_decoder_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise ValueError("a" * 500)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)

    assert unchecked(VALID["PNG"]) == "cannot be decoded: " + "a" * 80


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

    assert unchecked(VALID["PNG"]) == f"cannot be decoded: {str(error) or type(error).__name__}"


def test_a_disk_that_fails_says_nothing_about_the_image() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        inspect_file(Failing(VALID["PNG"]), max_pixels=PIXELS)


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
        assert (facts.thumbnail is None) == (facts.check_error is not None)


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
    found: list[FileFacts] = []

    def examine() -> None:
        found.append(inspect_file(io.BytesIO(content), max_pixels=PIXELS))

    threads = [threading.Thread(target=examine) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=60)
    assert begun.acquire(timeout=60)
    assert not images._decoding.acquire(blocking=False)  # no room for a third
    go.set()
    for thread in threads:
        thread.join(60)

    assert (len(found), most[0]) == (8, MAX_DECODERS)


@pytest.mark.parametrize(("pixels", "alone"), [(320 * 240 - 1, True), (320 * 240, False)])
def test_a_large_image_is_decoded_alone(
    monkeypatch: pytest.MonkeyPatch, pixels: int, alone: bool
) -> None:
    entered = []

    @contextmanager
    def turn() -> Iterator[None]:
        entered.append(True)
        yield

    monkeypatch.setattr(images, "LARGE_PIXELS", pixels)
    monkeypatch.setattr(images, "_decoding_large", turn())

    seen(VALID["PNG"])

    assert bool(entered) is alone


def test_a_refused_image_makes_room_for_the_next() -> None:
    for _ in range(MAX_DECODERS + 1):
        refusal(b"text")

    assert seen(VALID["PNG"])[0].width == 320
