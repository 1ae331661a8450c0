"""The providers' options, models and limits as data and as a page, made from the adapters."""

from __future__ import annotations

from typing import Any, ClassVar

import orjson

from orchestrator.job_check import REQUEST_SCHEMA
from orchestrator.jobs.request import UNIFIED_OPTIONS
from orchestrator.jobs.schema_fields import links, text
from orchestrator.jobs.validation import StrictSchema
from orchestrator.jsonio import dump
from orchestrator.providers import BUILT_IN
from orchestrator.providers.catalog import Family, Model
from orchestrator.providers.hiapi import HiAPI
from orchestrator.providers.listing import (
    FULL,
    LIMITED,
    REFUSED,
    alike,
    limit_text,
    markdown,
    support,
    view,
)
from tests.support.cases import for_each


class ListingBody(StrictSchema):
    model = text(required=True)
    prompt = text(required=True)
    ratio = text(one_of=("1:1", "2:1"))
    pictures = links(maximum=3)


WIDE = Model(
    ListingBody(), {"prompt": ("prompt",), "aspect_ratio": ("ratio",), "images": ("pictures",)}
)
PLAIN = Model(ListingBody(), {"prompt": ("prompt",), "output_format": ("format",)})


class ListedMill(HiAPI):
    name = "mill"
    title = "Mill"
    models: ClassVar[dict[str, Model]] = {"wide": WIDE, "plain": PLAIN, "wider": WIDE}
    families: ClassVar[dict[str, Family]] = {
        "tiered": Family("wide", {"1K": "wide", "2K": "wider"}),
        "single": Family("plain"),
    }


# As data -------------------------------------------------------------------------------------


@for_each("name", BUILT_IN)
@for_each("on", [True, False])
def test_a_view_is_json_and_says_whether_the_provider_is_on(name: str, on: bool) -> None:
    shown = view(BUILT_IN[name], on=on)

    assert orjson.loads(dump(shown)) == shown
    assert (shown["name"], shown["on"]) == (name, on)


def test_a_view_has_the_facts_of_the_adapter() -> None:
    shown = view(BUILT_IN["evolink"], on=True)
    models = {model["name"]: model["options"] for model in shown["models"]}

    assert shown["title"] == "EvoLink"
    assert shown["capabilities"] == {
        "callbacks": True,
        "signed_callbacks": False,
        "jwks_url": None,
        "callback_is_hint": False,
        "idempotency_seconds": 0,
        "links_live_seconds": 86_400,
        "upload_field": None,
    }
    assert (shown["poll_seconds"], shown["max_poll_seconds"]) == (3.0, 30.0)
    assert shown["takes_unlisted_models"] is False
    assert list(models) == list(BUILT_IN["evolink"].models)
    assert models["nano-banana-2-lite"]["prompt"] == {"min_length": 1, "max_length": 2000}
    assert models["nano-banana-2-lite"]["resolution"] == {
        "one_of": ["1K", "2K", "4K"],
        "default": "2K",
    }
    assert "n" not in models["nano-banana-2-lite"]


@for_each("name", BUILT_IN)
def test_a_view_names_the_model_and_the_tiers_of_each_family(name: str) -> None:
    families = {family["name"]: family for family in view(BUILT_IN[name], on=True)["families"]}

    assert families.keys() == BUILT_IN[name].families.keys()
    for family in families.values():
        models = {family["model"], *family["resolution"].values()}
        assert models <= BUILT_IN[name].models.keys()


def test_a_view_says_where_models_need_not_be_listed() -> None:
    accepting = [n for n in BUILT_IN if view(BUILT_IN[n], on=True)["takes_unlisted_models"]]

    assert accepting == [name for name, p in BUILT_IN.items() if p.unlisted]
    assert "hiapi" in accepting
    assert "evolink" not in accepting


def test_an_option_that_some_models_refuse_is_limited() -> None:
    supported = {option: support(ListedMill(), option) for option in UNIFIED_OPTIONS}

    assert supported == {
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
    options = {o for p in BUILT_IN.values() for model in p.models.values() for o in model.options}

    assert options == set(UNIFIED_OPTIONS)


# As text ------------------------------------------------------------------------------------


@for_each(
    ("limit", "text"),
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
def test_a_limit_in_limit_parts(limit: dict[str, Any], text: str) -> None:
    assert limit_text(limit) == text


def test_names_that_share_a_model_are_one_group() -> None:
    assert alike(ListedMill()) == [(["wide", "wider"], WIDE), (["plain"], PLAIN)]


# As a page -----------------------------------------------------------------------------------


def test_the_page_of_one_provider() -> None:
    page = markdown([ListedMill()]).splitlines()

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
