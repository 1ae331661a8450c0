"""Images in answers: inline ones, their limits, and forms that are none."""

from __future__ import annotations

import base64
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.jobs.model import Image
from orchestrator.jsonio import dump
from orchestrator.providers import inline
from orchestrator.providers.inline import base64_bytes, data_url
from orchestrator.providers.results import MAX_DEPTH, MAX_IMAGES, images, result_images
from tests.support.cases import for_each
from tests.support.strategies import TEXT

LINK = "https://e.example/a.png"
SVG = "%3Csvg%3E%3C/svg%3E"


def test_a_data_url_is_decoded() -> None:
    for text, content in [
        ("data:image/png;base64,AAEC", b"\0\1\2"),
        ("  DATA:Image/PNG;charset=utf-8;BASE64,AAEC", b"\0\1\2"),
        ("data:image/png;base64,AA\nEC  ", b"\0\1\2"),
        ("data:image/png;base64,%2B_-8%3D", b"\xfb\xff\xbc"),
        ("data:;base64,AAEC", b"\0\1\2"),
        ("data:video/mp4;base64,AAEC", b"\0\1\2"),
        (f"data:image/svg+xml,{SVG}", b"<svg></svg>"),
        ("data:text/plain;base64,/9j/", b"\xff\xd8\xff"),
        ("data:application/json;base64,AAAAIGZ0eXA=", b"\0\0\0 ftyp"),
        ("data:text/html;base64,%2F9j%2F", b"\xff\xd8\xff"),
        ("data:text/html;base64,AAEC", None),
        ("data:application/json,{}", None),
        ("data:image/png;base64,", None),
        ("data:image/png;base64,!!!", None),
        ("data:image/png;base64,\ud83d", None),
        ("data:image/png", None),
        ("https://e.example/?data:image/png;base64,AAEC", None),
    ]:
        assert data_url(text) == content


def test_an_image_inside_an_answer_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "MAX_INLINE_BYTES", 6)

    for size, accepted in ((6, True), (7, False)):
        text = base64.b64encode(b"x" * size).decode()
        assert bool(base64_bytes(text)) is accepted
        assert bool(data_url(f"data:image/png;base64,{text}")) is accepted
        assert bool(data_url("data:image/png," + "%20" * size)) is accepted


def test_the_bytes_of_an_image_are_in_no_repr() -> None:
    [image] = result_images({"b64_json": base64.b64encode(b"secret").decode()})

    assert image == Image("", content=b"secret")
    assert "secret" not in repr(image)


def test_a_form_without_an_image_has_none() -> None:
    for result in [
        None,
        7,
        True,
        "",
        "x",
        "null",
        [],
        {},
        [None],
        {"url": None},
        {"thumbnail": LINK},
        {"input": [LINK]},
        {"source": LINK},
        {"b64_json": "!"},
        {"b64_json": 7},
        '"',
        "{",
        "ftp://e.example/a",
        {"data": "AAEC"},
    ]:
        for value in (result, dump(result).decode()):
            assert result_images({"output": value}) == ()


def test_several_links_in_one_text_are_several_images() -> None:
    for between in (",", "\n", " , ", "\r\n"):
        found = result_images({"result_url": f"{LINK}{between}{LINK}?b"})
        assert [image.source_url for image in found] == [LINK, f"{LINK}?b"]


def test_the_first_place_with_an_image_counts() -> None:
    task = {"mine": [], "result_url": LINK, "output": [f"{LINK}?2"], "other": f"{LINK}?3"}

    assert [i.source_url for i in result_images(task, ["mine", "result_url"])] == [LINK]
    assert [i.source_url for i in result_images(task, ["other"])] == [f"{LINK}?3"]
    assert [i.source_url for i in result_images({"images": [LINK]}, inputs=["image"])] == []
    assert result_images({"images": [LINK]}, ["images"], inputs=["images"])


def test_number_and_depth_are_bounded() -> None:
    deep: Any = [LINK]
    for _ in range(900):
        deep = [deep]

    assert len(result_images({"output": [LINK] * 1000})) == MAX_IMAGES
    assert result_images({"output": deep}) == ()


@for_each("wrap", [lambda inner: [inner], lambda inner: {"url": inner}])
def test_each_level_counts_once(wrap: Callable[[Any], Any]) -> None:
    value: Any = LINK
    for _ in range(MAX_DEPTH - 1):
        value = wrap(value)

    assert result_images({"output": value}) == (Image(LINK),)
    assert result_images({"output": wrap(value)}) == ()


def test_pairs_of_link_and_expiry_become_images() -> None:
    assert images([(f" {LINK}", 5), (None, 5), ("x", 5)]) == (Image(LINK, 5),)


_TEXTS = TEXT | st.sampled_from([LINK, "[", "{", '"', "data:image/png;base64,", "iVBORw0KGgo"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["url", "images", "data", "0", "b64_json"]), inner),
    max_leaves=8,
)  # fmt: skip


@given(_VALUES)
def test_whatever_comes_is_read_without_an_exception(value: Any) -> None:
    for image in result_images({"output": value}, ["output", "output.url"], now=1):
        assert bool(image.source_url) != bool(image.content)


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after this CPU time of the process, also inside a regular expression."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@for_each("part", [" ", ", ", " https", "https:", "data:", "["])
def test_a_long_text_is_read_in_linear_time(part: str) -> None:
    # Linear time is below one second. Quadratic time is minutes.
    with cpu_limit(30):
        images([("x" + part * 400_000, None)])
