"""A provider's price table, from a setting, where its answers do not tell what a task costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.jsonio import NotJson, parse

#: Stands for every value that a table does not list.
ANY = "*"
#: How many names may lead to a price: the model, and each thing that it depends on.
_DEEPEST = 8

_FORM = '{"unit": "USD", "prices": {"<model>": <price of one image>, ...}}'


class BadPrices(ValueError):
    """A price table that cannot be used; the message says what is allowed."""


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices of one image: by model, then by what else the price depends on.

    A price is a number, or an object of prices by the next thing it depends on, where "*" stands
    for every value that is not listed: `{"gpt-image-2": {"1024x1024": {"low": 0.01, "*": 0.04}}}`.
    """

    unit: str
    prices: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> PriceTable:
        """A table from its JSON form.

        Raises:
            BadPrices: it has another form.
        """
        try:
            told = parse(text)
        except NotJson as error:
            raise BadPrices(f"JSON like {_FORM} ({error})") from None
        if not isinstance(told, dict) or told.keys() != {"unit", "prices"}:
            raise BadPrices(f"a JSON object with unit and prices, like {_FORM}")
        unit, prices = told["unit"], told["prices"]
        if not isinstance(unit, str) or not 1 <= len(unit) <= 20 or not unit.isprintable():
            raise BadPrices("a unit of 1 to 20 printable characters, such as USD or credits")
        if not isinstance(prices, dict) or not prices:
            raise BadPrices(f"prices by model, like {_FORM}")
        for path in _odd(prices):
            raise BadPrices(f"at {' > '.join(path)}: a number from 0, or an object of such")
        return cls(unit, prices)

    def of(self, model: str, depends_on: Sequence[str]) -> float | None:
        """The price of one image, or None when the table does not have it."""
        here: Any = self.prices
        for name in (model, *depends_on):
            if not isinstance(here, Mapping):
                break
            here = here.get(name, here.get(ANY))
        return None if here is None or isinstance(here, Mapping) else float(here)


def _odd(prices: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, price in prices.items():
        here = (*path, name)
        if isinstance(price, Mapping) and price and len(here) < _DEEPEST:
            yield from _odd(price, here)
        elif not _is_price(price):
            yield here


def _is_price(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and value >= 0
