"""What counts as a checked image, what is kept unchecked, and what is refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile, PngImagePlugin

from orchestrator.storage import images
from orchestrator.storage.images import (
    THUMBNAIL_PIXELS,
    FileFacts,
    inspect_file,
)
from tests.storage.pictures import FORMATS, PIXELS, VALID, drawn, encoded, refusal, seen, unchecked


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
