"""What an image link can do wrong: the values of the fault `image`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from .durations import A_TIME, MAX_COUNT, read_count, read_seconds


@dataclass(frozen=True)
class LinkKind:
    """One way in which a link fails."""

    name: str
    meaning: str
    #: whether seconds can stand after a slash, as in `slow/30s`
    timed: bool = False

    @property
    def spelling(self) -> str:
        """How it is written, as in `503[/SECONDS]`."""
        return self.name + ("[/SECONDS]" if self.timed else "")


_KINDS = (
    LinkKind("404", "404 with XML as S3 sends it: NoSuchKey"),
    LinkKind("403", "403 with XML as S3 sends it: AccessDenied, the request has expired"),
    LinkKind("410", "410 with an empty body"),
    LinkKind("503", "503 with XML as S3 sends it: SlowDown; Retry-After if given", timed=True),
    LinkKind("json", "200 with an error as JSON"),
    LinkKind("html", "200 with an HTML page"),
    LinkKind("pixel", "200 with a PNG of one pixel"),
    LinkKind("cut", "half of the image, and the end of the connection; Content-Length says all"),
    LinkKind("short", "half of the image, and a Content-Length that fits the half"),
    LinkKind("small_length", "the whole image, and a Content-Length that is half of it"),
    LinkKind("slow", "the image, trickled for so long (60 seconds if not given)", timed=True),
    LinkKind("endless", "the image, and zeros without end (cut off after 1 GiB)"),
    LinkKind("gzip_bomb", "1 MB that is 1 GiB once Content-Encoding: gzip is undone"),
    LinkKind("pixel_bomb", "a PNG of a few kB that claims 50000 x 50000 pixels"),
    LinkKind("redirect", "302 to a link that works"),
    LinkKind("redirect_loop", "302 to itself"),
    LinkKind("redirect_private", "302 to http://169.254.169.254/latest/meta-data/"),
)

#: every way there is, by name
LINK_KINDS: Mapping[str, LinkKind] = {kind.name: kind for kind in _KINDS}

_ALLOWED = ", ".join(kind.spelling for kind in _KINDS) + f", each with *1 to *{MAX_COUNT} or none"


@dataclass(frozen=True)
class LinkFault:
    """How a link fails, and how often."""

    kind: str
    #: None: none were given
    seconds: float | None = None
    #: how many requests for each link it hits, the first ones; None: all
    asks: int | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `KIND[/SECONDS][*N]`; ValueError says what is allowed."""
        rest, star, count = (part.strip() for part in text.partition("*"))
        name, slash, time = (part.strip() for part in rest.partition("/"))
        kind = LINK_KINDS.get(name)
        if kind is None:
            raise ValueError(_ALLOWED)
        if slash and not kind.timed:
            raise ValueError(f"{name} without a time")
        seconds = read_seconds(time) if slash else None
        if slash and seconds is None:
            raise ValueError(f"{name}/ and {A_TIME}")
        asks = read_count(count) if star else None
        if star and asks is None:
            raise ValueError(f"*1 to *{MAX_COUNT}")
        return cls(name, seconds, asks)

    def __str__(self) -> str:
        time = "" if self.seconds is None else f"/{self.seconds:g}s"
        return self.kind + time + ("" if self.asks is None else f"*{self.asks}")

    def hits(self, number: int) -> bool:
        """Whether the request of this number for a link, counted from 1, meets it."""
        return self.asks is None or number <= self.asks
