"""The answers of an image link that fails: no image, a part of it, or too much data."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flask import Response, jsonify

from .choices import ChosenValue
from .decompression import gzip_bomb, pixel, pixel_bomb
from .http_types import ResponseBody, send_raw_header, stream_answer
from .link_forms import odd_location
from .retry_after import whole_seconds

#: Query parameter of the link that `redirect` leads to. That link works.
REDIRECT_TARGET = "followed"
#: Target of `redirect_private`.
PRIVATE_URL = "http://169.254.169.254/latest/meta-data/"
#: Duration of `slow` without a value. Seconds.
SLOW_SECONDS = 60.0
#: Largest body of `endless`. It protects clients without a limit. Bytes.
ENDLESS_BYTES = 2**30

#: Size of one piece of `endless`. Bytes.
_PIECE_BYTES = 64 * 1024
#: Time between two pieces of `slow`. Seconds.
_PAUSE_SECONDS = 0.1

_PAGE = """<!doctype html>
<title>Image not ready</title>
<p>The image you asked for is not available.</p>
"""
_XML = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>{message}</Message><RequestId>0A49CE4060975EAC</RequestId></Error>
"""


@dataclass(frozen=True)
class ImageLink:
    """A requested link and its image."""

    url: str
    draw: Callable[[], bytes]
    content_type: str
    #: Set when the sandbox stops.
    stopping: threading.Event


def answer_expired_link() -> Response:
    """Return the answer of an expired link."""
    return _xml(404, "NoSuchKey", "The specified key does not exist.")


def answer_broken_link(link: ImageLink, fault: ChosenValue) -> Response:
    """Return the answer of a link with this fault."""
    return ANSWERS[fault.name](link, fault)


def _xml(status: int, code: str, message: str) -> Response:
    text = _XML.format(code=code, message=message)
    return Response(text, status, content_type="application/xml")


def _missing_with_200(_: ImageLink, __: ChosenValue) -> Response:
    answer = answer_expired_link()
    answer.status_code = 200
    return answer


def _denied(_: ImageLink, __: ChosenValue) -> Response:
    return _xml(403, "AccessDenied", "Request has expired")


def _busy(_: ImageLink, fault: ChosenValue) -> Response:
    answer = _xml(503, "SlowDown", "Please reduce your request rate.")
    if fault.seconds is not None:
        answer.headers["Retry-After"] = str(whole_seconds(fault.seconds))
    return answer


def _json(_: ImageLink, __: ChosenValue) -> Response:
    return jsonify({"error": {"code": "not_ready", "message": "The image is not available."}})


def _page(_: ImageLink, __: ChosenValue) -> Response:
    return Response(_PAGE, mimetype="text/html")


def _cut(link: ImageLink, _: ChosenValue) -> Response:
    image = link.draw()
    return stream_answer(ResponseBody((_first_half(image),), len(image)), link.content_type)


def _short(link: ImageLink, _: ChosenValue) -> Response:
    return Response(_first_half(link.draw()), content_type=link.content_type)


def _small_length(link: ImageLink, _: ChosenValue) -> Response:
    image = link.draw()
    # The connection stays open. The rest of the body is where the next answer should begin.
    body = ResponseBody((image,), len(_first_half(image)), close=False)
    return stream_answer(body, link.content_type)


def _slow(link: ImageLink, fault: ChosenValue) -> Response:
    image = link.draw()
    seconds = SLOW_SECONDS if fault.seconds is None else fault.seconds
    body = ResponseBody(_slow_pieces(image, seconds, link.stopping), len(image))
    return stream_answer(body, link.content_type)


def _endless(link: ImageLink, _: ChosenValue) -> Response:
    return stream_answer(ResponseBody(_endless_pieces(link.draw()), None), link.content_type)


def _gzip_bomb(link: ImageLink, _: ChosenValue) -> Response:
    answer = Response(gzip_bomb(link.draw()), content_type=link.content_type)
    answer.headers["Content-Encoding"] = "gzip"
    return answer


def _redirect(location: str) -> Response:
    return Response(status=302, headers={"Location": location})


def _redirect_odd(link: ImageLink, _: ChosenValue) -> Response:
    send_raw_header("Location", odd_location(f"{link.url}?{REDIRECT_TARGET}=1"))
    return Response(status=302)


#: The answer of every kind of `image`.
ANSWERS: Mapping[str, Callable[[ImageLink, ChosenValue], Response]] = {
    "404": lambda _, __: answer_expired_link(),
    "403": _denied,
    "410": lambda _, __: Response(status=410),
    "503": _busy,
    "json": _json,
    "html": _page,
    "xml": _missing_with_200,
    "nothing": lambda link, _: Response(content_type=link.content_type),
    "pixel": lambda _, __: Response(pixel(), mimetype="image/png"),
    "cut": _cut,
    "short": _short,
    "small_length": _small_length,
    "slow": _slow,
    "endless": _endless,
    "gzip_bomb": _gzip_bomb,
    "pixel_bomb": lambda _, __: Response(pixel_bomb(), mimetype="image/png"),
    "redirect": lambda link, _: _redirect(f"{link.url}?{REDIRECT_TARGET}=1"),
    "redirect_odd": _redirect_odd,
    "redirect_loop": lambda link, _: _redirect(link.url),
    "redirect_private": lambda _, __: _redirect(PRIVATE_URL),
}


def _first_half(image: bytes) -> bytes:
    return image[: len(image) // 2]


def _slow_pieces(image: bytes, seconds: float, stopping: threading.Event) -> Iterator[bytes]:
    count = min(len(image), max(1, math.ceil(seconds / _PAUSE_SECONDS)))
    size = math.ceil(len(image) / count)
    starts = range(0, len(image), size)
    for start in starts:
        if stopping.wait(seconds / len(starts)):
            return
        yield image[start : start + size]


def _endless_pieces(image: bytes) -> Iterator[bytes]:
    yield image
    for _ in range((ENDLESS_BYTES - len(image)) // _PIECE_BYTES):
        # The sandbox closes the connection when it stops, and that ends the loop.
        yield bytes(_PIECE_BYTES)
