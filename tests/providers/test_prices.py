"""Price tables: the form of the setting, and the price of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.jsonio import dump
from orchestrator.providers.prices import BadPrices, PriceTable
from tests.support.cases import for_each
from tests.support.strategies import TEXT

FLAT = '{"unit":"USD","prices":{"m":0.04}}'


def table(prices: Any) -> PriceTable:
    return PriceTable.parse(dump({"unit": "USD", "prices": prices}).decode())


# The setting --------------------------------------------------------------------------------


def test_a_table_is_a_unit_and_prices() -> None:
    assert PriceTable.parse(FLAT) == PriceTable("USD", {"m": 0.04})


@for_each("unit", ["x", "credits", "\u20ac", "x" * 20, "US cents"])
def test_a_unit_is_a_short_word(unit: str) -> None:
    assert PriceTable.parse(FLAT.replace("USD", unit)).unit == unit


@for_each("price", [0, 0.0, 1, 1e9, 1e-9, {"1K": 1}, {"1K": {"*": 0}, "*": 2}])
def test_a_price_is_a_number_from_0_or_prices_of_what_it_depends_on(price: Any) -> None:
    assert table({"m": price}).prices == {"m": price}


@for_each(
    "text",
    ["", "nope", "{", FLAT[:-1], FLAT + FLAT, "{'unit': 'USD'}", FLAT.replace("0.04", "NaN"),
     FLAT.replace("0.04", "Infinity"), FLAT.replace("0.04", "1e999"), "\ud800", "[" * 5000],
)  # fmt: skip
def test_text_that_is_not_json_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadPrices, match=r'^JSON like \{"unit": "USD", "prices": '):
        PriceTable.parse(text)


@for_each(
    "document",
    [None, 7, "x", [], {}, {"unit": "USD"}, {"prices": {"m": 1}}, {"m": 1},
     {"unit": "USD", "prices": {"m": 1}, "currency": "EUR"}],
)  # fmt: skip
def test_a_table_has_only_unit_and_prices(document: Any) -> None:
    with pytest.raises(BadPrices, match="a JSON object with unit and prices"):
        PriceTable.parse(dump(document).decode())


@for_each("unit", ["", "x" * 21, "a\nb", "\0", None, 7, ["USD"], {}])
def test_another_unit_is_refused(unit: Any) -> None:
    with pytest.raises(BadPrices, match="a unit of 1 to 20 printable characters"):
        PriceTable.parse(dump({"unit": unit, "prices": {"m": 1}}).decode())


@for_each("prices", [None, 7, "x", [], ["m"], {}])
def test_prices_that_are_no_object_with_models_are_refused(prices: Any) -> None:
    with pytest.raises(BadPrices, match="prices by model, like"):
        table(prices)


@for_each("odd", [-1, -0.01, "1", "free", None, True, False, [], [1]])
def test_an_odd_price_is_refused_with_its_place(odd: Any) -> None:
    for prices, place in (({"a": 1, "m": odd}, "m"), ({"m": {"1K": 1, "4K": odd}}, "m > 4K")):
        with pytest.raises(
            BadPrices, match=f"a number from 0, or an object of numbers, at {place}$"
        ):
            table(prices)


def nested(depth: int) -> str:
    return '{"unit":"USD","prices":' + '{"a":' * depth + "1" + "}" * (depth + 1)


def test_eight_names_may_lead_to_a_price() -> None:
    assert PriceTable.parse(nested(8)).of("a", ["a"] * 7) == 1.0


@pytest.mark.parametrize("depth", [9, 900, 1015])
def test_more_names_than_eight_are_refused(depth: int) -> None:
    with pytest.raises(BadPrices, match=r", at a( > a){7}$"):
        PriceTable.parse(nested(depth))


def test_an_empty_object_of_prices_is_refused() -> None:
    with pytest.raises(BadPrices, match=r", at m$"):
        table({"m": {}})


@given(TEXT | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_other_text_is_a_bad_price_table(text: str) -> None:
    with pytest.raises(BadPrices):
        PriceTable.parse(text)


# The price of an image -----------------------------------------------------------------------

PRICES: Mapping[str, Any] = {
    "flat": 0.04,
    "tiered": {"1K": 1, "*": 9},
    "gpt": {"1024x1024": {"low": 0.01, "*": 0.08}, "2048x1024": 0.5, "*": {"low": 0.02}},
    "free": 0,
}


@for_each(
    ("model", "depends_on", "price"),
    [
        ("flat", [], 0.04),
        ("flat", ["1K"], 0.04),
        ("tiered", ["1K"], 1.0),
        ("tiered", ["4K"], 9.0),
        ("tiered", ["*"], 9.0),
        ("tiered", [], None),
        ("gpt", ["1024x1024", "low"], 0.01),
        ("gpt", ["1024x1024", "high"], 0.08),
        ("gpt", ["2048x1024", "high"], 0.5),
        ("gpt", ["1536x864", "low"], 0.02),
        ("gpt", ["1536x864", "high"], None),
        ("gpt", ["1024x1024"], None),
        ("free", [], 0.0),
        ("unknown", [], None),
        ("", [], None),
    ],
)
def test_a_price_is_looked_up_by_model_and_then_by_what_it_depends_on(
    model: str, depends_on: list[str], price: float | None
) -> None:
    assert table(PRICES).of(model, depends_on) == price


def test_a_star_matches_every_unlisted_model() -> None:
    prices = table({"m": 1, "*": 2})

    assert (prices.of("m", []), prices.of("other", [])) == (1.0, 2.0)
