"""What providers take, as data and as a page: made from the adapters, so it cannot differ."""

from __future__ import annotations

from typing import Any, ClassVar

import orjson
import pytest

from orchestrator.enqueue import REQUEST_SCHEMA
from orchestrator.jobs.model import UNIFIED_OPTIONS
from orchestrator.jobs.validation import StrictSchema, links, text
from orchestrator.jsonio import dump
from orchestrator.providers import BUILT_IN
from orchestrator.providers.catalog import Family, Model
from orchestrator.providers.hiapi import HiAPI
from orchestrator.providers.listing import (
    FULL,
    LIMITED,
    REFUSED,
    alike,
    markdown,
    support,
    view,
    words,
)


class Body(StrictSchema):
    model = text(required=True)
    prompt = text(required=True)
    ratio = text(one_of=("1:1", "2:1"))
    pictures = links(maximum=3)


WIDE = Model(Body(), {"prompt": ("prompt",), "aspect_ratio": ("ratio",), "images": ("pictures",)})
PLAIN = Model(Body(), {"prompt": ("prompt",), "output_format": ("format",)})


class Mill(HiAPI):
    name = "mill"
    title = "Mill"
    models: ClassVar[dict[str, Model]] = {"wide": WIDE, "plain": PLAIN, "wider": WIDE}
    families: ClassVar[dict[str, Family]] = {
        "tiered": Family("wide", {"1K": "wide", "2K": "wider"}),
        "single": Family("plain"),
    }


# As data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("on", [True, False])
def test_a_view_is_json_and_says_whether_the_provider_is_on(name: str, on: bool) -> None:
    shown = view(BUILT_IN[name], on=on)

    assert orjson.loads(dump(shown)) == shown
    assert (shown["name"], shown["on"]) == (name, on)


def test_a_view_tells_what_the_adapter_holds() -> None:
    shown = view(BUILT_IN["uniall"], on=True)
    models = {model["name"]: model["options"] for model in shown["models"]}

    assert shown["title"] == "UniAll"
    assert shown["capabilities"] == {
        "callbacks": False,
        "signed_callbacks": False,
        "callback_is_hint": False,
        "idempotency_seconds": 0,
        "links_live_seconds": None,
        "upload_field": "image",
    }
    assert (shown["poll_seconds"], shown["max_poll_seconds"]) == (2.0, 5.0)
    assert shown["takes_unlisted_models"] is False
    assert list(models) == list(BUILT_IN["uniall"].models)
    assert models["gpt-image-2"]["n"] == {"min": 1, "max": 8}
    assert models["gpt-image-2"]["resolution"] == {"one_of": ["1K", "2K", "4K"]}
    assert models["NanoBanana"]["output_format"] == {"one_of": ["png", "jpeg", "webp"]}
    assert "resolution" not in models["NanoBanana"]
    assert {"name": "nano-banana", "model": "NanoBanana", "resolution": {}} in shown["families"]


def test_a_view_says_where_models_need_not_be_listed() -> None:
    taking = [n for n in BUILT_IN if view(BUILT_IN[n], on=True)["takes_unlisted_models"]]

    assert taking == ["hiapi"]


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("uniall", [FULL, FULL, LIMITED, LIMITED, LIMITED, LIMITED]),
        ("hiapi", [FULL, FULL, LIMITED, LIMITED, LIMITED, REFUSED]),
        ("evolink", [LIMITED, LIMITED, LIMITED, LIMITED, REFUSED, REFUSED]),
        ("aigptimage", [LIMITED, REFUSED, LIMITED, LIMITED, LIMITED, REFUSED]),
    ],
)
def test_support_is_full_limited_or_refused(provider: str, expected: list[str]) -> None:
    assert [support(BUILT_IN[provider], option) for option in UNIFIED_OPTIONS] == expected
    assert view(BUILT_IN[provider], on=True)["support"] == dict(
        zip(UNIFIED_OPTIONS, expected, strict=True)
    )


def test_an_option_that_some_models_refuse_is_limited() -> None:
    told = {option: support(Mill(), option) for option in UNIFIED_OPTIONS}

    assert told == {
        "prompt": FULL,
        "images": LIMITED,
        "aspect_ratio": LIMITED,
        "resolution": REFUSED,
        "output_format": LIMITED,
        "n": REFUSED,
    }


def test_the_options_are_fields_of_a_request() -> None:
    assert set(UNIFIED_OPTIONS) < set(REQUEST_SCHEMA.fields)


def test_every_option_of_every_model_is_among_them() -> None:
    taken = {o for p in BUILT_IN.values() for model in p.models.values() for o in model.options}

    assert taken == set(UNIFIED_OPTIONS)


# In words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({}, "any"),
        ({"min_length": 1}, "any"),
        ({"one_of": ["1K", "2K"]}, "1K, 2K"),
        ({"min_length": 1, "max_length": 2000}, "at most 2000"),
        ({"min": 1, "max": 8}, "1 to 8"),
        ({"max": 8}, "0 to 8"),
        ({"min": 1}, "from 1"),
        ({"one_of": ["a"], "max_length": 3}, "a; at most 3"),
    ],
)
def test_a_limit_in_words(limit: dict[str, Any], told: str) -> None:
    assert words(limit) == told


def test_models_that_take_the_same_stand_together() -> None:
    assert alike(Mill()) == [(["wide", "wider"], WIDE), (["plain"], PLAIN)]


# As a page -----------------------------------------------------------------------------------


def test_the_page_of_one_provider() -> None:
    page = markdown([Mill()]).splitlines()

    assert page[0] == "# Providers"
    for line in (
        "| option | [Mill](mill.md) |",
        "| --- | --- |",
        "| `prompt` | full |",
        "| `images` | limited |",
        "| `n` | refused |",
        "| `image_file` | refused |",
        "| native `request` | any model |",
        "| callbacks | signed, if a secret is set |",
        "| idempotent submission | 24 h |",
        "| links are valid for | unknown |",
        "| polled every | 3 to 30 s |",
        "| `tiered` | 1K: `wide`, 2K: `wider` |",
        "| `single` | `plain` |",
        "### Mill",
        "| `wide`, `wider` | any | at most 3 | 1:1, 2:1 | refused | refused | refused |",
        "| `plain` | any | refused | refused | refused | any | refused |",
    ):
        assert line in page


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ("`image_file`", ["full", "refused", "refused", "refused"]),
        ("native `request`", ["listed models", "any model", "listed models", "listed models"]),
        ("callbacks", ["no", "signed, if a secret is set", "yes", "no"]),
        ("idempotent submission", ["no", "24 h", "no", "24 h"]),
        ("links are valid for", ["unknown", "unknown", "24 h", "unknown"]),
    ],
)
def test_the_page_tells_what_each_provider_can(row: str, cells: list[str]) -> None:
    assert f"| {row} | {' | '.join(cells)} |" in markdown(BUILT_IN.values()).splitlines()


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    width = 0
    for line in markdown(BUILT_IN.values()).splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or line.count(" | ")
        assert line.count(" | ") == width, line


def test_the_page_ends_with_one_line_end() -> None:
    page = markdown(BUILT_IN.values())

    assert page.endswith("|\n")
    assert not page.endswith("\n\n")
