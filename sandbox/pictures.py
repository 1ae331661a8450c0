"""Draws the images that the emulated models "generate"."""

import colorsys
import hashlib
import io
from bisect import bisect
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont, ImageOps

#: Smallest side of an image. A smaller image would look like a placeholder. Pixels.
MIN_SIDE_PIXELS = 256
#: Longer side by resolution, in pixels. It is larger if `MIN_SIDE_PIXELS` needs it. Real images
#: are larger; these are drawn quickly.
LONG_SIDE_PIXELS = {"0.5K": 384, "1K": 512, "2K": 768, "4K": 1024, "8K": 1024}

_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
#: Gap between two lines of text. Pixels.
_LINE_GAP_PIXELS = 6
_FONT_SIZES_PIXELS = (64, 48, 40, 32, 26, 22, 18, 15, 12, 10)

#: Longest part of a prompt that is drawn. More would be too small to read. Characters.
_MAX_DRAWN_CHARS = 1200
#: Cached files, about 40 kB each, and cached images without a caption, at most 3 MB each.
_MAX_CACHED_FILES, _MAX_CACHED_PAINTINGS = 256, 16

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class PictureSpec:
    """The size of an image in pixels, and its extension `png`, `jpg`, `jpeg` or `webp`."""

    width: int
    height: int
    extension: str

    @property
    def content_type(self) -> str:
        """The media type."""
        return _TYPES[_FORMATS[self.extension]]


def picture(aspect_ratio: str, resolution: str, extension: str) -> PictureSpec:
    """Return the size of an image for a ratio such as `16:9` and a resolution such as `2K`.

    The ratio `auto` is a square.
    """
    across, down = (1, 1) if aspect_ratio == "auto" else map(int, aspect_ratio.split(":"))
    scale = max(
        LONG_SIDE_PIXELS[resolution] / max(across, down), MIN_SIDE_PIXELS / min(across, down)
    )
    return PictureSpec(max(1, round(across * scale)), max(1, round(down * scale)), extension)


def draw(spec: PictureSpec, prompt: str, caption: str) -> bytes:
    """Return an image file with the prompt and a caption. The prompt decides the colours."""
    seed = hashlib.sha256(prompt.encode(errors="replace")).digest()
    return _drawn(spec, seed, prompt[:_MAX_DRAWN_CHARS], caption)


@lru_cache(maxsize=_MAX_CACHED_FILES)
def _drawn(spec: PictureSpec, seed: bytes, prompt: str, caption: str) -> bytes:
    margin = min(spec.width, spec.height) // 14
    image = _painted(spec.width, spec.height, seed, prompt).copy()
    pen = ImageDraw.Draw(image, "RGBA")
    foot = _font(max(9, min(14, spec.width // 40)))
    caption = _shorten(caption, foot, spec.width - margin)
    pen.text((margin / 2, spec.height - margin / 2), caption, (255, 255, 255, 190), foot, "ls")
    out = io.BytesIO()
    # Fast compression makes a larger file. Hundreds of these images are drawn and dropped.
    image.save(out, _FORMATS[spec.extension], compress_level=1, method=0)
    return out.getvalue()


@lru_cache(maxsize=_MAX_CACHED_PAINTINGS)
def _painted(width: int, height: int, seed: bytes, prompt: str) -> Image.Image:
    """Draw everything except the caption. Images of the same prompt differ only in it."""
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
    pen: ImageDraw.ImageDraw, prompt: str, area: tuple[int, int], margin: int
) -> None:
    words = " ".join(prompt.split())
    font, text = _fit(words, area)
    centre = (margin + area[0] / 2, margin + area[1] / 2)
    shade = max(1, round(getattr(font, "size", 10) / 32))
    for offset, colour in ((shade, (0, 0, 0, 80)), (0, (255, 255, 255, 255))):
        position = (centre[0] + offset, centre[1] + offset)
        pen.multiline_text(
            position, text, colour, font, "mm", spacing=_LINE_GAP_PIXELS, align="center"
        )


def _fit(words: str, area: tuple[int, int]) -> tuple[Font, str]:
    for size in _FONT_SIZES_PIXELS:
        font = _font(size)
        lines = _wrap(words, font, area[0])
        fits_height = len(lines) * (size + _LINE_GAP_PIXELS) <= area[1]
        if fits_height and max(map(font.getlength, lines)) <= area[0]:
            return font, "\n".join(lines)
    max_lines = max(1, area[1] // (_FONT_SIZES_PIXELS[-1] + _LINE_GAP_PIXELS))
    shown = [_shorten(line, font, area[0]) for line in lines[:max_lines]]
    if len(lines) > max_lines:
        shown[-1] = _shorten(shown[-1] + "…", font, area[0])
    return font, "\n".join(shown)


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
    count = bisect(range(len(text)), width, key=lambda end: font.getlength(text[:end] + "…"))
    return text[: max(0, count - 1)] + "…"


@lru_cache(maxsize=32)
def _font(size: int) -> Font:
    return ImageFont.load_default(size)
