"""Draws the pictures the emulated models "generate"."""

import colorsys
import hashlib
import io
from bisect import bisect
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont, ImageOps

#: shortest side in pixels: a smaller image would look like a placeholder
SHORTEST_SIDE = 256
#: longest side in pixels by asked resolution, unless the shortest side needs more: far smaller
#: than real ones, to be drawn quickly
LONGEST_SIDE = {"0.5K": 384, "1K": 512, "2K": 768, "4K": 1024, "8K": 1024}

_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
#: pixels between two lines
_LEADING = 6
_FONT_SIZES = (64, 48, 40, 32, 26, 22, 18, 15, 12, 10)

#: characters of a prompt that are drawn; more would be too small to read
_DRAWN = 1200
#: how many finished files are kept, of some 40 kB each, and how many paintings, of up to 3 MB
_KEPT_FILES, _KEPT_PAINTINGS = 256, 16

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """A picture as it was asked for: its size in pixels and `png`, `jpg`, `jpeg` or `webp`."""

    width: int
    height: int
    extension: str

    @property
    def content_type(self) -> str:
        """Its media type."""
        return _TYPES[_FORMATS[self.extension]]


def picture(aspect_ratio: str, resolution: str, extension: str) -> Picture:
    """Size a picture by the words the providers use; `auto` is a square."""
    across, down = (1, 1) if aspect_ratio == "auto" else map(int, aspect_ratio.split(":"))
    scale = max(LONGEST_SIDE[resolution] / max(across, down), SHORTEST_SIDE / min(across, down))
    return Picture(max(1, round(across * scale)), max(1, round(down * scale)), extension)


def draw(wanted: Picture, prompt: str, caption: str) -> bytes:
    """Draw the prompt on a background of its own colours, with a small caption."""
    seed = hashlib.sha256(prompt.encode(errors="replace")).digest()
    return _drawn(wanted, seed, prompt[:_DRAWN], caption)


@lru_cache(maxsize=_KEPT_FILES)
def _drawn(wanted: Picture, seed: bytes, prompt: str, caption: str) -> bytes:
    margin = min(wanted.width, wanted.height) // 14
    image = _painted(wanted.width, wanted.height, seed, prompt).copy()
    pen = ImageDraw.Draw(image, "RGBA")
    foot = _font(max(9, min(14, wanted.width // 40)))
    caption = _shorten(caption, foot, wanted.width - margin)
    pen.text((margin / 2, wanted.height - margin / 2), caption, (255, 255, 255, 190), foot, "ls")
    out = io.BytesIO()
    # A fast, larger file: these pictures are made by the hundred and thrown away.
    image.save(out, _FORMATS[wanted.extension], compress_level=1, method=0)
    return out.getvalue()


@lru_cache(maxsize=_KEPT_PAINTINGS)
def _painted(width: int, height: int, seed: bytes, prompt: str) -> Image.Image:
    """All but the caption, which is what differs between the pictures of one prompt."""
    image = _background((width, height), seed)
    margin = min(width, height) // 14
    pen = ImageDraw.Draw(image, "RGBA")
    _write_prompt(pen, prompt, (width - 2 * margin, height - 4 * margin), margin)
    return image


def _background(size: tuple[int, int], seed: bytes) -> Image.Image:
    hue = seed[0] / 255
    top, bottom = _colour(hue, 0.55, 0.80), _colour(hue + 0.16, 0.75, 0.38)
    ramp = Image.linear_gradient("L").resize(size)
    image = ImageOps.colorize(ramp, top, bottom)
    pen = ImageDraw.Draw(image, "RGBA")
    for number in range(4):
        across, down, reach = seed[3 * number + 1 : 3 * number + 4]
        x, y = size[0] * across / 255, size[1] * down / 255
        radius = max(size) * (0.12 + 0.25 * reach / 255)
        tint = _colour(hue + 0.08 * number, 0.45, 0.95)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), (*tint, 48))
    return image


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _write_prompt(
    pen: ImageDraw.ImageDraw, prompt: str, room: tuple[int, int], margin: int
) -> None:
    words = " ".join(prompt.split())
    font, text = _fit(words, room)
    centre = (margin + room[0] / 2, margin + room[1] / 2)
    shade = max(1, round(getattr(font, "size", 10) / 32))
    for offset, colour in ((shade, (0, 0, 0, 80)), (0, (255, 255, 255, 255))):
        place = (centre[0] + offset, centre[1] + offset)
        pen.multiline_text(place, text, colour, font, "mm", spacing=_LEADING, align="center")


def _fit(words: str, room: tuple[int, int]) -> tuple[Font, str]:
    for size in _FONT_SIZES:
        font = _font(size)
        lines = _wrap(words, font, room[0])
        low = len(lines) * (size + _LEADING) <= room[1]
        if low and max(map(font.getlength, lines)) <= room[0]:
            return font, "\n".join(lines)
    most = max(1, room[1] // (_FONT_SIZES[-1] + _LEADING))
    kept = [_shorten(line, font, room[0]) for line in lines[:most]]
    if len(lines) > most:
        kept[-1] = _shorten(kept[-1] + "…", font, room[0])
    return font, "\n".join(kept)


def _wrap(words: str, font: Font, width: float) -> list[str]:
    lines = [""]
    for word in words.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _shorten(text: str, font: Font, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    fits = bisect(range(len(text)), width, key=lambda end: font.getlength(text[:end] + "…"))
    return text[: max(0, fits - 1)] + "…"


@lru_cache(maxsize=32)
def _font(size: int) -> Font:
    return ImageFont.load_default(size)
