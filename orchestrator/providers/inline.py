"""Images that come inside an answer, as `data:` URLs or as base64."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote, unquote_to_bytes

#: The largest image inside an answer. Bytes, decoded.
MAX_INLINE_BYTES = 64 * 1024 * 1024
#: The longest text of such an image: each byte may be percent-encoded. Characters.
_MAX_TEXT_CHARACTERS = 3 * MAX_INLINE_BYTES
_DATA_URL = re.compile(r"\s*data:([^,]{0,200}),", re.IGNORECASE)
#: Documents instead of media. A `data:` URL with one of them is a result only if its content begins
#: like an image, because providers also label images wrongly.
_DOCUMENTS = ("text/", "application/json", "application/javascript", "application/xml")
#: How base64 of PNG, JPEG, WebP, GIF, TIFF (two byte orders), and AVIF, HEIC or MP4 begins.
_IMAGE_STARTS = re.compile(
    r"iVBORw0KGgo|/9j/|UklGR|R0lGOD|SUkqA|TU0AK|AAAA[A-Za-z0-9+/]GZ0eX", re.ASCII
)
_SPACE = re.compile(r"\s+")
_URL_SAFE = str.maketrans("-_", "+/")


def data_url(text: str) -> bytes | None:
    """Return the content of a `data:` URL of an image or another medium, or None."""
    match = _DATA_URL.match(text)
    if match is None or len(text) > _MAX_TEXT_CHARACTERS:
        return None
    kind = match[1].strip().lower()
    if kind.startswith(_DOCUMENTS) and not looks_like_image(unquote(text[match.end() :][:64])):
        return None
    content = text[match.end() :].encode("utf-8", "replace")
    if _SPACE.sub("", kind).endswith("base64"):
        return base64_bytes(unquote_to_bytes(content).decode("ascii", "replace"))
    decoded = unquote_to_bytes(content)
    return decoded if kind and 0 < len(decoded) <= MAX_INLINE_BYTES else None


def looks_like_image(text: str) -> bool:
    """Return whether a text begins like the base64 of an image."""
    return _IMAGE_STARTS.match(text.lstrip()[:16]) is not None


def base64_bytes(text: str) -> bytes | None:
    """Return the bytes of base64, or None when the text is something else, empty or too large.

    White space, the URL-safe alphabet and a missing padding are accepted.
    """
    if len(text) > _MAX_TEXT_CHARACTERS:
        return None
    digits = _SPACE.sub("", text).translate(_URL_SAFE).rstrip("=")
    if not digits or len(digits) * 3 // 4 > MAX_INLINE_BYTES:
        return None
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
