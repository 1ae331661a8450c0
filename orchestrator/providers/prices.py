"""Price tables for providers whose answers contain no cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.jsonio import NotJson, parse

#: Matches every value that a table does not list.
ANY = "*"
#: The deepest table. Levels: the model, and each property that sets the price.
_MAX_LEVELS = 8

_FORM = '{"unit": "USD", "prices": {"<model>": <price of one image>, ...}}'


class BadPrices(ValueError):
    """The price table cannot be used. The message says what is allowed."""


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices of one image by model, then by the properties that set the price.

    A price is a number, or an object with prices by the next property. "*" matches every other
    value: `{"gpt-image-2": {"1024x1024": {"low": 0.01, "*": 0.04}}}`.
    """

    unit: str
    prices: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> PriceTable:
        """Return the table of a JSON text.

        Raises:
            BadPrices: the text has another form.
        """
        try:
            document = parse(text)
        except NotJson as error:
            raise BadPrices(f"JSON like {_FORM} ({error})") from None
        if not isinstance(document, dict) or document.keys() != {"unit", "prices"}:
            raise BadPrices(f"a JSON object with unit and prices, like {_FORM}")
        unit, prices = document["unit"], document["prices"]
        if not isinstance(unit, str) or not 1 <= len(unit) <= 20 or not unit.isprintable():
            raise BadPrices(
                "JSON with a unit of 1 to 20 printable characters, such as USD or credits"
            )
        if not isinstance(prices, dict) or not prices:
            raise BadPrices(f"JSON with prices by model, like {_FORM}")
        for path in _invalid(prices):
            raise BadPrices(
                f"JSON with a number from 0, or an object of numbers, at {' > '.join(path)}"
            )
        return cls(unit, prices)

    def of(self, model: str, depends_on: Sequence[str]) -> float | None:
        """Return the price of one image, or None without a price."""
        here: Any = self.prices
        for name in (model, *depends_on):
            if not isinstance(here, Mapping):
                break
            here = here.get(name, here.get(ANY))
        return None if here is None or isinstance(here, Mapping) else float(here)


def _invalid(prices: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, price in prices.items():
        here = (*path, name)
        if isinstance(price, Mapping) and price and len(here) < _MAX_LEVELS:
            yield from _invalid(price, here)
        elif not _is_price(price):
            yield here


def _is_price(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and value >= 0
