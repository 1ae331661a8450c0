"""The values of the fault `image`: how an image link can fail."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from .durations import COUNT_FORMAT, DURATION_FORMAT, MAX_COUNT, read_count, read_seconds


@dataclass(frozen=True)
class LinkKind:
    """One way in which a link fails."""

    name: str
    meaning: str
    #: True when seconds may follow a slash, as in `slow/30s`.
    takes_seconds: bool = False

    @property
    def syntax(self) -> str:
        """How it is written, such as `503[/SECONDS]`."""
        return self.name + ("[/SECONDS]" if self.takes_seconds else "")


_KINDS = (
    LinkKind("404", "404 with XML in the form of S3: NoSuchKey"),
    LinkKind("403", "403 with XML in the form of S3: AccessDenied, the request has expired"),
    LinkKind("410", "410 with an empty body"),
    LinkKind(
        "503",
        "503 with XML in the form of S3: SlowDown; Retry-After if seconds are given",
        takes_seconds=True,
    ),
    LinkKind("json", "200 with an error as JSON"),
    LinkKind("html", "200 with an HTML page"),
    LinkKind("pixel", "200 with a PNG of one pixel"),
    LinkKind("cut", "half of the image with the Content-Length of all; the connection closes"),
    LinkKind("short", "half of the image with the Content-Length of the half"),
    LinkKind("small_length", "the whole image with the Content-Length of the half"),
    LinkKind("slow", "the image, slowly, in this time (60 seconds by default)", takes_seconds=True),
    LinkKind("endless", "the image and then zeros without an end (at most 1 GiB)"),
    LinkKind("gzip_bomb", "1 MB that becomes 1 GiB when Content-Encoding: gzip is decoded"),
    LinkKind("pixel_bomb", "a PNG of a few kB that claims 50000 x 50000 pixels"),
    LinkKind("redirect", "302 to a link that works"),
    LinkKind("redirect_loop", "302 to itself"),
    LinkKind("redirect_private", "302 to http://169.254.169.254/latest/meta-data/"),
)

#: Every kind by its name.
LINK_KINDS: Mapping[str, LinkKind] = {kind.name: kind for kind in _KINDS}

_ALLOWED = (
    "one of "
    + ", ".join(kind.syntax for kind in _KINDS)
    + f", optionally followed by *1 to *{MAX_COUNT}"
)


@dataclass(frozen=True)
class LinkFault:
    """How a link fails, and for how many requests."""

    kind: str
    #: None when no seconds are given.
    seconds: float | None = None
    #: Number of requests for each link that fail first. None makes every request fail.
    max_requests: int | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `KIND[/SECONDS][*N]`.

        Raises:
            ValueError: The text has another form. The message is the allowed form.
        """
        rest, star, count = (part.strip() for part in text.partition("*"))
        name, slash, time = (part.strip() for part in rest.partition("/"))
        kind = LINK_KINDS.get(name)
        if kind is None:
            raise ValueError(_ALLOWED)
        if slash and not kind.takes_seconds:
            raise ValueError(f"{name} without a time")
        seconds = read_seconds(time) if slash else None
        if slash and seconds is None:
            raise ValueError(f"{name}/ followed by {DURATION_FORMAT}")
        max_requests = read_count(count) if star else None
        if star and max_requests is None:
            raise ValueError(f"{name}* followed by {COUNT_FORMAT}")
        return cls(name, seconds, max_requests)

    def __str__(self) -> str:
        time = "" if self.seconds is None else f"/{self.seconds:g}s"
        return self.kind + time + ("" if self.max_requests is None else f"*{self.max_requests}")

    def applies_to(self, number: int) -> bool:
        """Return True when this request for a link fails. The first request is number 1."""
        return self.max_requests is None or number <= self.max_requests
