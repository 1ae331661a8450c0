"""Where a family name is offered, its default resolution, its note and its price are shown."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.providers import BUILT_IN
from orchestrator.providers.listing import default_resolution, markdown, shared_models, view
from orchestrator.providers.prices import PriceTable
from tests.support.cases import for_each


@pytest.mark.parametrize(
    ("provider", "family", "resolution"),
    [
        ("evolink", "nano-banana-2", "2K"),
        ("evolink", "nano-banana-pro", "2K"),
        ("hiapi", "nano-banana-2", "1K"),
    ],
)
def test_a_family_shows_its_default_resolution(provider: str, family: str, resolution: str) -> None:
    adapter = BUILT_IN[provider]
    shown = {entry["name"]: entry for entry in view(adapter, on=True)["families"]}

    assert default_resolution(adapter, adapter.families[family]) == resolution
    assert shown[family]["default_resolution"] == resolution


@for_each("name", BUILT_IN)
def test_the_default_resolution_is_the_one_of_the_tier_or_of_the_price(name: str) -> None:
    for family in BUILT_IN[name].families.values():
        if family.tiers:
            assert family.tiers[default_resolution(BUILT_IN[name], family) or ""] == family.default


def test_families_that_share_a_dearer_model_say_so() -> None:
    adapter = BUILT_IN["evolink"]

    assert shared_models(adapter) == {
        "gemini-3-pro-image-preview": ["nano-banana-2", "nano-banana-pro"]
    }
    assert {entry["note"] for entry in view(adapter, on=True)["families"]} == {
        "dearer than nano-banana-2-lite"
    }
    assert "dearer than nano-banana-2-lite" in markdown(BUILT_IN.values())


def test_a_model_and_a_family_show_the_price_of_their_defaults() -> None:
    prices = PriceTable("USD", {"Nano-Banana-2": {"1K": 0.04, "4K": 0.1}})

    shown = view(BUILT_IN["hiapi"], on=True, prices=prices)

    price = {"amount": 0.04, "unit": "USD"}
    assert [model["price"] for model in shown["models"]] == [price]
    assert [family["price"] for family in shown["families"]] == [price]


def test_without_a_table_or_a_price_none_is_shown() -> None:
    other = PriceTable("USD", {"another-model": 1})

    for prices in (None, other):
        shown = view(BUILT_IN["hiapi"], on=True, prices=prices)
        assert [model["price"] for model in shown["models"]] == [None]


@for_each("name", BUILT_IN)
def test_the_command_shows_a_default_resolution_only_where_there_is_one(name: str) -> None:
    shown = CliRunner().invoke(main, ["providers", name]).output.replace("\n", " ")
    defaults = [default_resolution(BUILT_IN[name], f) for f in BUILT_IN[name].families.values()]

    assert "default resolution None" not in shown
    for resolution in filter(None, defaults):
        assert f"default resolution {resolution}" in shown
