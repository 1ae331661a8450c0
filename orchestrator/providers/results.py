"""Finds the images in a provider's answer, in every form that results come in.

Results are links, `data:` URLs or base64; as strings, objects, lists of them, or JSON text. Only
places of results are searched, so an image of the request or a thumbnail is never one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from orchestrator.jobs.model import Image
from orchestrator.jsonio import parse_embedded
from orchestrator.net.links import normalized_link
from orchestrator.providers.envelopes import plain_name, plain_names
from orchestrator.providers.inline import base64_bytes, data_url, looks_like_image

#: The most images of one task.
MAX_IMAGES = 100
#: The deepest place of an image below the place of the results. Levels.
MAX_DEPTH = 16
#: The largest number that is a duration in seconds instead of a time: three years.
_MAX_DURATION_SECONDS = 10**8
#: The smallest number that is a time in ms, and the first that is no time at all.
_MIN_TIME_MS, _MAX_TIME_MS = 10**11, 10**14

#: Places of results in a task, searched after the documented ones. Names without `_`, lower case.
USUAL_PLACES = (
    *("resultjson", "resulturls", "resulturl", "results", "result", "metadata.resulturls"),
    *("outputs", "output", "outputurls", "outputurl", "imageurls", "imageurl", "images", "image"),
    *("data", "response", "artifacts", "generations"),
)
#: Names inside a result, the best first: lists, then links, then base64.
_INSIDE = (
    *("resultjson", "resulturls", "results", "result", "outputs", "output", "imageurls", "images"),
    *("urls", "artifacts", "generations", "candidates", "content", "parts", "inlinedata"),
    *("url", "imageurl", "resulturl", "outputurl", "downloadurl", "fileurl", "videourl"),
    *("src", "link", "href", "uri", "image", "file", "data"),
)
_BASE64 = ("b64json", "b64", "base64", "imagebase64", "bytesbase64encoded")
_MIME_TYPE = "mimetype"
_EXPIRY = ("expireat", "expiresat", "expiretime", "expirytime", "expiry", "expires")
#: It begins only where a run of separators begins, so that a long run takes linear time.
_BETWEEN_LINKS = re.compile(r"(?<![\s,])[\s,]++(?=https?:)", re.IGNORECASE)


def result_images(
    task: Mapping[str, Any],
    places: Collection[str] = (),
    *,
    inputs: Collection[str] = (),
    now: int = 0,
    expires: int | None = None,
) -> tuple[Image, ...]:
    """Return the images of a task from the first place that has any.

    Args:
        task: the provider's object.
        places: the documented places, such as `metadata.result_urls`. They are searched first.
        inputs: names of the request's images. They are not searched unless they are documented.
        now: ms.
        expires: expiry time of links without their own, ms.
    """
    for value in _possible_results(task, places, frozenset(inputs)):
        results = tuple(islice(_images(value, now, expires, MAX_DEPTH), MAX_IMAGES))
        if results:
            return results
    return ()


def _possible_results(
    task: Mapping[str, Any], places: Collection[str], inputs: frozenset[str]
) -> Iterator[Any]:
    """Yield what stands at the places of results, the documented places first."""
    for place in places:
        yield _at(task, place)
    plain = plain_names(task)
    for here, below in _usual_places(inputs):
        if here in plain:
            yield _at(plain[here], below) if below else plain[here]
    yield {name: plain[name] for name in _BASE64 if name in plain}


@lru_cache
def _usual_places(inputs: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the usual places that do not have the name of an image of the request.

    A place is a name in the task, and the place below it, which is empty for most.
    """
    excluded = {form for name in inputs for form in _forms(name)}
    split = (name.partition(".") for name in USUAL_PLACES if name not in excluded)
    return tuple((here, below) for here, _, below in split)


def images(links: Iterable[tuple[Any, int | None]]) -> tuple[Image, ...]:
    """Return the images of (link, expiry time in ms) pairs. What is no link is dropped."""
    return tuple(
        image
        for text, expires in links
        if isinstance(text, str)
        for image in _in_text(text, expires)
    )


def _in_text(text: str, expires: int | None) -> Iterator[Image]:
    """Yield the images that one string holds: a `data:` URL, base64, or links."""
    content = data_url(text) or (base64_bytes(text) if looks_like_image(text) else None)
    if content is not None:
        yield Image("", content=content)
        return
    for part in _BETWEEN_LINKS.split(text):
        link = normalized_link(part)
        if link:
            yield Image(link, expires)


def _images(value: Any, now: int, expires: int | None, depth: int) -> Iterator[Image]:
    if depth == 0:
        return
    if isinstance(value, str):
        inner = parse_embedded(value)
        if inner is None:
            yield from _in_text(value, expires)
        else:
            yield from _images(inner, now, expires, depth - 1)
    elif isinstance(value, list):
        for item in value:
            yield from _images(item, now, expires, depth - 1)
    elif isinstance(value, dict):
        yield from _in_object(value, now, expires, depth)


def _in_object(value: dict[str, Any], now: int, expires: int | None, depth: int) -> Iterator[Image]:
    """Yield the images of the first name that has any."""
    plain = plain_names(value)
    times = (expiry(plain[name], now) for name in _EXPIRY if name in plain)
    own = next(filter(None, times), expires)
    for inner in (*[plain[name] for name in _INSIDE if name in plain], _numbered(value)):
        results = list(islice(_images(inner, now, own, depth - 1), MAX_IMAGES))
        if results:
            yield from results
            return
    encoded = [plain.get(name) for name in _BASE64]
    if isinstance(plain.get(_MIME_TYPE), str):
        encoded.append(plain.get("data"))
    for text in encoded:
        content = base64_bytes(text) if isinstance(text, str) else None
        if content is not None:
            yield Image("", content=content)
            return


def expiry(value: Any, now: int) -> int | None:
    """Return an expiry time in ms, or None when it is odd or not after `now`.

    Seconds and ms since the epoch are known by their size. A small number is a duration in seconds.
    """
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value.strip()[:20])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value < _MAX_TIME_MS:
        return None
    if value <= _MAX_DURATION_SECONDS:
        return now + int(value * 1000) if now else None
    time = int(value) if value > _MIN_TIME_MS else int(value * 1000)
    return time if time > now else None


def _numbered(value: dict[str, Any]) -> list[Any]:
    """Return the values of `{"0": …, "1": …}`."""
    return [*value.values()] if value and all(name.isdigit() for name in value) else []


def _forms(name: str) -> tuple[str, str]:
    """Return singular and plural of a name."""
    single = plain_name(name).removesuffix("s")
    return single, f"{single}s"


def _at(task: Any, place: str) -> Any:
    """Return the value at a place, or None. An object on the way may be JSON text."""
    value = task
    for step in place.split("."):
        inner = parse_embedded(value) if isinstance(value, str) else value
        if not isinstance(inner, Mapping):
            return None
        value = inner[step] if step in inner else plain_names(inner).get(plain_name(step))
    return value
