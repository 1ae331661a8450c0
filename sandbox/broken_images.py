"""Answers of an image link that are no image, or not all of it, or too much."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flask import Response, jsonify

from .decompression import gzip_bomb, pixel, pixel_bomb
from .faults import whole_seconds
from .http_types import Body, send
from .link_faults import LinkFault

#: in the query of a link that `redirect` leads to: it works
FOLLOWED = "followed"
#: where `redirect_private` leads to
PRIVATE = "http://169.254.169.254/latest/meta-data/"
#: how long `slow` takes when nothing else is asked for; in seconds
SLOW_SECONDS = 60.0
#: how many bytes `endless` sends at most, so that a client without a limit breaks no machine
ENDLESS_BYTES = 2**30

#: bytes of a piece of `endless`, and seconds between two pieces of `slow`
_PIECE = 64 * 1024
_PAUSE = 0.1

_PAGE = """<!doctype html>
<title>Image not ready</title>
<p>The image you asked for is not available.</p>
"""
_XML = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>{message}</Message><RequestId>0A49CE4060975EAC</RequestId></Error>
"""


@dataclass(frozen=True)
class Link:
    """A link that was asked for, and the image that it stands for."""

    url: str
    draw: Callable[[], bytes]
    content_type: str
    #: set when the sandbox stops
    stopping: threading.Event


def dead() -> Response:
    """The answer of a link whose life has ended."""
    return _xml(404, "NoSuchKey", "The specified key does not exist.")


def spoil(link: Link, fault: LinkFault) -> Response:
    """Answer for a link in the way that the fault asks for."""
    return ANSWERS[fault.kind](link, fault)


def _xml(status: int, code: str, message: str) -> Response:
    text = _XML.format(code=code, message=message)
    return Response(text, status, content_type="application/xml")


def _denied(_: Link, __: LinkFault) -> Response:
    return _xml(403, "AccessDenied", "Request has expired")


def _busy(_: Link, fault: LinkFault) -> Response:
    answer = _xml(503, "SlowDown", "Please reduce your request rate.")
    if fault.seconds is not None:
        answer.headers["Retry-After"] = str(whole_seconds(fault.seconds))
    return answer


def _json(_: Link, __: LinkFault) -> Response:
    return jsonify({"error": {"code": "not_ready", "message": "The image is not available."}})


def _page(_: Link, __: LinkFault) -> Response:
    return Response(_PAGE, mimetype="text/html")


def _cut(link: Link, _: LinkFault) -> Response:
    image = link.draw()
    return send(Body((_half(image),), len(image)), link.content_type)


def _short(link: Link, _: LinkFault) -> Response:
    return Response(_half(link.draw()), content_type=link.content_type)


def _small_length(link: Link, _: LinkFault) -> Response:
    image = link.draw()
    # The connection stays: what is left of the body is where the next answer should begin.
    return send(Body((image,), len(_half(image)), close=False), link.content_type)


def _slow(link: Link, fault: LinkFault) -> Response:
    image = link.draw()
    seconds = SLOW_SECONDS if fault.seconds is None else fault.seconds
    return send(Body(_trickle(image, seconds, link.stopping), len(image)), link.content_type)


def _endless(link: Link, _: LinkFault) -> Response:
    return send(Body(_without_end(link.draw()), None), link.content_type)


def _gzip_bomb(link: Link, _: LinkFault) -> Response:
    answer = Response(gzip_bomb(link.draw()), content_type=link.content_type)
    answer.headers["Content-Encoding"] = "gzip"
    return answer


def _to(location: str) -> Response:
    return Response(status=302, headers={"Location": location})


ANSWERS: Mapping[str, Callable[[Link, LinkFault], Response]] = {
    "404": lambda _, __: dead(),
    "403": _denied,
    "410": lambda _, __: Response(status=410),
    "503": _busy,
    "json": _json,
    "html": _page,
    "pixel": lambda _, __: Response(pixel(), mimetype="image/png"),
    "cut": _cut,
    "short": _short,
    "small_length": _small_length,
    "slow": _slow,
    "endless": _endless,
    "gzip_bomb": _gzip_bomb,
    "pixel_bomb": lambda _, __: Response(pixel_bomb(), mimetype="image/png"),
    "redirect": lambda link, _: _to(f"{link.url}?{FOLLOWED}=1"),
    "redirect_loop": lambda link, _: _to(link.url),
    "redirect_private": lambda _, __: _to(PRIVATE),
}


def _half(image: bytes) -> bytes:
    return image[: len(image) // 2]


def _trickle(image: bytes, seconds: float, stopping: threading.Event) -> Iterator[bytes]:
    count = min(len(image), max(1, math.ceil(seconds / _PAUSE)))
    size = math.ceil(len(image) / count)
    starts = range(0, len(image), size)
    for start in starts:
        if stopping.wait(seconds / len(starts)):
            return
        yield image[start : start + size]


def _without_end(image: bytes) -> Iterator[bytes]:
    yield image
    for _ in range((ENDLESS_BYTES - len(image)) // _PIECE):
        # Ends with the connection, which the sandbox cuts when it stops.
        yield bytes(_PIECE)
