"""What counts as a checked image, what is kept unchecked, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile, PngImagePlugin

from orchestrator.storage import image_structure, thumbnails
from orchestrator.storage.images import FileFacts, inspect_file
from orchestrator.storage.thumbnails import THUMBNAIL_PIXELS
from tests.storage.pictures import (
    FORMATS,
    PIXELS,
    VALID,
    drawn,
    encoded,
    no_thumbnail,
    refusal,
    seen,
    unchecked,
)
from tests.support.cases import for_each


@for_each("format_", FORMATS)
def test_every_format_is_known_by_its_bytes(format_: str) -> None:
    picture, small = seen(VALID[format_])

    content_type, extension = FORMATS[format_]
    assert (picture.content_type, picture.extension) == (content_type, extension)
    assert (picture.width, picture.height) == (320, 240)
    assert small.size == (256, 192)


@for_each(
    ("size", "thumbnail"),
    [((1024, 1024), (256, 256)), ((64, 2048), (8, 256)), ((100, 70), (100, 70))],
)
@for_each("format_", ["PNG", "JPEG"])
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


@for_each(
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


@for_each("orientation", range(1, 9))
@for_each("format_", ["JPEG", "PNG", "WEBP"])
def test_exif_turns_thumbnail_and_sides(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(format_, drawn(), exif=exif)

    picture, small = seen(content)

    turned = drawn()
    if orientation in thumbnails._TURNS:
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


@for_each("size", [(1, 1), (25, 14), (63, 64), (64, 63), (63, 4000)])
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


@for_each("name", VALID)
def test_a_file_that_was_cut_is_refused(name: str) -> None:
    for tenths in range(10):
        content = VALID[name]

        said = refusal(content[: len(content) * tenths // 10])

        kind = name.rsplit(maxsplit=1)[-1]
        expected = (
            f"truncated: the end of the {kind} file is missing" if tenths else "an empty file"
        )
        assert said == expected


#: How many bytes may be missing at the end, because they only end the file. PNG: a part of the last
#: chunk; GIF: its trailer and the end of its data.
TOLERATED = {"PNG": 6, "GIF": 2}


@for_each("name", VALID)
def test_a_missing_tail_is_refused(name: str) -> None:
    for missing in [1, 2, 3, 5, 7, 13, 31, 64, 200]:
        if missing > TOLERATED.get(name, 0):
            assert refusal(VALID[name][:-missing])
        else:
            seen(VALID[name][:-missing])


@for_each("name", VALID)
def test_garbage_after_the_image_is_nothing_to_us(name: str) -> None:
    assert seen(VALID[name] + b"\r\n<html>garbage" * 100)[0].width


def test_cut_files_are_not_patched_up() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


PNG_HEAD, PNG_END = VALID["PNG"][:33], VALID["PNG"][-12:]
SOF = VALID["JPEG"].index(b"\xff\xc0")
SOS = VALID["JPEG"].index(b"\xff\xda")
#: Whole files with a fault, and how it is named.
DAMAGED: dict[str, tuple[bytes, str]] = {
    "PNG, other header": (
        b"\x89PNG\r\n\x1a\n" + VALID["PNG"][33:],
        "the header of the PNG is wrong",
    ),
    "PNG, no side": (
        PNG_HEAD[:8] + chunk(b"IHDR", bytes(4) + PNG_HEAD[20:29]) + VALID["PNG"][33:],
        "the header of the PNG is wrong",
    ),
    "PNG, depth": (
        PNG_HEAD[:8] + chunk(b"IHDR", PNG_HEAD[16:24] + b"\3\2\0\0\0") + VALID["PNG"][33:],
        "the header of the PNG is wrong",
    ),
    "PNG, no pixels": (PNG_HEAD + PNG_END, "the PNG has no pixels"),
    "PNG, other pixels": (
        PNG_HEAD + chunk(b"IDAT", b"GIF89a") + PNG_END,
        "the pixels of the PNG are not compressed by its rules",
    ),
    "PNG, chunk name": (
        PNG_HEAD + chunk(b"ID\0T", b"") + VALID["PNG"][33:],
        "the PNG has a chunk without a name",
    ),
    "PNG, chunk length": (
        PNG_HEAD + b"\x7f" + VALID["PNG"][34:],
        "a chunk of the PNG is longer than the file",
    ),
    "JPEG, no size": (
        VALID["JPEG"][:SOF] + VALID["JPEG"][SOS:],
        "the JPEG has no size before its pixels",
    ),
    "JPEG, size 0": (
        VALID["JPEG"][: SOF + 5] + bytes(4) + VALID["JPEG"][SOF + 9 :],
        "the size of the JPEG is wrong",
    ),
    "JPEG, no pixels": (VALID["JPEG"][:SOS] + b"\xff\xd9", "the JPEG has no pixels"),
    "JPEG, no marker": (
        VALID["JPEG"][:SOF] + b"\0" + VALID["JPEG"][SOF:],
        "the JPEG has no marker where one belongs",
    ),
    "JPEG, segment length": (
        VALID["JPEG"][: SOS + 40] + b"\xff\xe0\xff\xf0" + VALID["JPEG"][SOS + 40 :],
        "a segment of the JPEG is longer than the file",
    ),
    "WEBP, no pixels": (
        b"RIFF\x10\0\0\0WEBPXXXX\4\0\0\0abcd",
        "the WebP image has no pixels",
    ),
    "WEBP, chunk length": (
        VALID["WEBP"][:16] + b"\xff" * 4 + VALID["WEBP"][20:],
        "a chunk of the WebP image is longer than the file",
    ),
    "WEBP, frame": (
        VALID["WEBP"][:23] + bytes(3) + VALID["WEBP"][26:],
        "the first frame of the WebP image is wrong",
    ),
    "GIF, no frame": (b"GIF89a@\0@\0\0\0\0;", "the GIF has a wrong block, or no frame"),
    "GIF, block": (
        VALID["GIF"][:-1] + b"\x99garbage",
        "the GIF has a wrong block, or no frame",
    ),
    "AVIF, no size": (VALID["AVIF"].replace(b"ispe", b"abcd"), "the AVIF image has no size"),
}


@for_each("what", DAMAGED)
def test_a_whole_file_with_a_wrong_structure_is_kept_unchecked(what: str) -> None:
    content, fault = DAMAGED[what]

    assert unchecked(content) == f"damaged: {fault}"


def test_every_changed_byte_of_a_png_is_found() -> None:
    content = encoded("PNG", drawn(64, 64))
    for place in range(33, len(content) - 12):
        changed = bytearray(content)
        changed[place] ^= 0x10
        facts = inspect_file(io.BytesIO(bytes(changed)), max_pixels=PIXELS)
        assert (facts.check_error or "").startswith("damaged: "), place


def test_pixels_that_cannot_be_decoded_have_no_thumbnail() -> None:
    """The structure is whole: only decoding shows the fault, and that is not worth its time."""
    head = struct.pack(">IIBBBBB", 320, 240, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\x09" * 200)
    content = PNG_HEAD[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + PNG_END

    assert inspect_file(io.BytesIO(content), max_pixels=PIXELS).check_error is None
    assert no_thumbnail(content).startswith("cannot be decoded: ")


def test_a_turned_avif_image_has_the_sides_of_what_is_seen() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    picture, small = seen(encoded("AVIF", drawn(), exif=exif))

    assert (picture.width, picture.height, small.size) == (240, 320, (192, 256))


def test_animated_images_have_the_size_of_their_canvas() -> None:
    for form in ("WEBP", "GIF"):
        content = encoded(form, save_all=True, append_images=[drawn().rotate(90)])
        assert (seen(content)[0].width, seen(content)[0].height) == (320, 240)


def test_a_gif_is_refused_when_a_later_frame_is_cut() -> None:
    content = encoded("GIF", save_all=True, append_images=[drawn().rotate(90)])

    assert seen(content)[0].width == 320
    assert refusal(content[:-300]) == "truncated: the end of the GIF file is missing"


class _Counted(io.BytesIO):
    """A file that counts what is read of it."""

    reads = bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self.reads, self.bytes_read = self.reads + 1, self.bytes_read + len(part)
        return part


def test_a_jpeg_of_many_scans_is_read_once() -> None:
    size = b"\xff\xc0\0\x11\x08\0\x64\0\x64\x03\x01\x22\0\x02\x11\1\3\x11\1"
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(16 * 1024)
    content = _Counted(b"\xff\xd8" + size + 100 * scan + b"\xff\xd9")

    assert inspect_file(content, max_pixels=PIXELS).check_error is None
    assert content.bytes_read < 3 * len(content.getvalue())


def test_the_boxes_in_an_avif_image_are_bounded_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + name + content

    monkeypatch.setattr(image_structure, "MAX_PARTS", 100)
    properties = box(b"iprp", box(b"ipco", 50 * box(b"free", b"")))
    meta = box(b"meta", bytes(4) + 50 * properties)
    start = box(b"ftyp", b"avif\0\0\0\0avifmif1")
    content = _Counted(start + 50 * meta + box(b"mdat", b""))

    assert "no size" in (inspect_file(content, max_pixels=PIXELS).check_error or "")
    assert content.reads < 1000


@pytest.mark.parametrize("end", [b"\xff\xd9", b""], ids=["whole", "truncated"])
def test_a_jpeg_of_many_scans_is_not_decoded(end: bytes) -> None:
    """Each scan of a progressive JPEG takes as long as all of its pixels."""
    content = encoded("JPEG", progressive=True)[:-2]
    last = content[content.rindex(b"\xff\xda") :]

    assert seen(content + 20 * last + b"\xff\xd9")[1].size == (256, 192)
    assert no_thumbnail(content + 200 * last + end) == "the JPEG has more than 100 scans"


def test_bytes_behind_a_jpeg_that_look_like_scans_do_no_harm() -> None:
    content = encoded("JPEG", progressive=True) + 200 * b"\xff\xda"

    assert seen(content)[1].size == (256, 192)
