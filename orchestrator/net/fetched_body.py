"""What comes of a download: a body, a redirect or an error."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urljoin

from orchestrator.net import content_encoding
from orchestrator.net.content_encoding import BodyTruncated, DecodedTooLarge
from orchestrator.net.guard import Forbidden, Target
from orchestrator.net.links import normalized_link

#: The most redirects of one download.
MAX_REDIRECTS = 5
#: The statuses of redirects.
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: The headers of every request to a URL that somebody else chose.
HEADERS = {
    "User-Agent": "image-orchestrator",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}
#: The part of a Content-Type that is kept.
_MAX_TYPE_CHARACTERS = 100


class RequestFailed(Exception):
    """There is no good answer. Another try may succeed, unless the status is permanent.

    Attributes:
        reason: a few words, without the URL and without header values.
        status: the HTTP status, or None.
        retry_after: the Retry-After of the answer, in seconds, at most an hour.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after


class TooLarge(RequestFailed):
    """The body is larger than allowed."""


@dataclass(frozen=True, slots=True)
class FetchedBody:
    """A body that was written: its length, its SHA-256 in hex, and its media type.

    The media type is in lower case without parameters. It is empty when the answer has none.
    """

    bytes: int
    sha256: str
    content_type: str


def joined(target: Target, location: str) -> str:
    """Return the target of a redirect, as a browser would open it.

    http.client reads the UTF-8 of servers as Latin-1.
    """
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode()
    path, *query = re.split(r"(?=[?#])", location.strip(), maxsplit=1)
    with suppress(ValueError):
        link = normalized_link(urljoin(target.url, path.replace("\\", "/") + "".join(query)))
        if link is not None:
            return link
    raise Forbidden("the redirect is not an http(s) link")


def media_type(header: str) -> str:
    """Return the media type in a Content-Type header, in lower case without parameters."""
    return header.partition(";")[0].strip().lower()[:_MAX_TYPE_CHARACTERS]


def decoded(encoding: str, into: BinaryIO, max_bytes: int) -> tuple[int, str] | None:
    """Decode a body that was written. We ask for no encoding, but some servers encode.

    Returns:
        The new length and SHA-256; None: the body is not encoded.

    Raises:
        RequestFailed: the body is cut, or too large.
    """
    codings = content_encoding.codings(encoding)
    try:
        return content_encoding.decode_file(into, codings, max_bytes=max_bytes)
    except BodyTruncated:
        raise RequestFailed("the body broke off: its encoding has no end", status=200) from None
    except DecodedTooLarge:
        raise too_large(max_bytes) from None


def too_large(max_bytes: int) -> TooLarge:
    """Return the error of a body that is too large."""
    return TooLarge(f"the body has more than {max_bytes} bytes", status=200)
