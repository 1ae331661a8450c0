"""Price tables in the environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.jobs.model import Cost
from orchestrator.jobs.request import JobRequest
from orchestrator.providers import PROVIDERS
from orchestrator.providers.prices import PriceTable
from tests.settings.kit import DOCS, KEYS, refusal
from tests.support.providers import POLLED_WITHOUT_KEYS

#: The provider of the page's price table: `n` images per task, and prices by size and quality.
PRICED = POLLED_WITHOUT_KEYS
PRICES = f"{PRICED.upper()}_PRICES"
FORM = '{"unit": "USD", "prices": %s}'


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("{", "JSON like"),
        ("{'unit': 'USD'}", "JSON like"),
        ('{"unit": "USD"}', "a JSON object with unit and prices"),
        ('{"unit": "USD", "prices": {"NanoBanana": 1}, "more": 1}', "with unit and prices"),
        ('{"unit": "", "prices": {"NanoBanana": 1}}', "a unit of 1 to 20 printable characters"),
        ('{"unit": 7, "prices": {"NanoBanana": 1}}', "a unit of 1 to 20 printable characters"),
        (FORM % "{}", "prices by model"),
        (FORM % "[]", "prices by model"),
        (FORM % '{"NanoBanana": -0.01}', "a number from 0, or an object of numbers, at NanoBanana"),
        (FORM % '{"NanoBanana": true}', "a number from 0, or an object of numbers, at NanoBanana"),
        (FORM % '{"NanoBanana": null}', "a number from 0, or an object of numbers, at NanoBanana"),
        (FORM % '{"gpt-image-2": {"*": {"low": "1"}}}', "at gpt-image-2 > * > low"),
        (FORM % '{"NanoBanana": 1e999}', "JSON like"),
        (FORM % '{"NanoBanana2": 1}', "'NanoBanana2' is not one of them"),
        (FORM % '{"nano-banana-2": 1}', "prices of the models NanoBanana, NanoBanana2-0.5K"),
    ],
)
def test_a_price_table_is_refused_with_what_is_wrong_in_it(
    read: Any, table: str, says: str
) -> None:
    text = refusal(read, **{**KEYS, PRICES: table})

    assert text.startswith(f"{PRICES} must be ")
    assert says in text


def test_a_price_table_in_a_file_may_have_several_lines(read: Any, tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{\n\t"unit": "USD",\r\n  "prices": {"NanoBanana": 1}\n}\n', "utf-8")

    prices = read(**KEYS, **{f"{PRICES}_FILE": str(file)}).providers[PRICED].prices

    assert prices == PriceTable("USD", {"NanoBanana": 1})


@pytest.mark.parametrize(
    ("model", "options", "returned", "amount"),
    [
        ("NanoBanana", {"n": 3}, None, 0.06),
        ("NanoBanana", {"n": 3}, 2, 0.04),
        ("nano-banana", {}, None, 0.02),
        ("nano-banana-2", {}, None, 0.03),
        ("nano-banana-2", {"resolution": "2K"}, None, None),
        ("gpt-image-2", {}, None, 0.04),
        ("gpt-image-2", {"n": 3}, 2, 0.12),
        ("gpt-image-2", {"aspect_ratio": "16:9", "resolution": "4K"}, None, 0.25),
        ("gpt-image-2", {"aspect_ratio": "16:9", "resolution": "2K"}, None, 0.08),
    ],
)
def test_the_pages_price_table_says_what_the_page_says(
    read: Any, model: str, options: dict[str, Any], returned: int | None, amount: float | None
) -> None:
    [shown] = re.findall(r"(?s)```json\n(.*?)```", DOCS.read_text("utf-8"))
    prices = read(**KEYS, **{PRICES: shown}).providers[PRICED].prices
    request = JobRequest(PRICED, model, options={"prompt": "x", **options})

    cost = PROVIDERS[PRICED].price(request, prices, returned)

    assert cost == (None if amount is None else Cost(amount, "USD", "computed"))


@pytest.mark.parametrize(("quality", "amount"), [("low", 0.01), ("medium", 0.04), ("high", 0.16)])
def test_a_quality_has_its_price(read: Any, quality: str, amount: float) -> None:
    [shown] = re.findall(r"(?s)```json\n(.*?)```", DOCS.read_text("utf-8"))
    prices = read(**KEYS, **{PRICES: shown}).providers[PRICED].prices
    body = {"model": "gpt-image-2", "prompt": "x", "size": "1024x1024", "quality": quality}
    request = JobRequest(PRICED, "gpt-image-2", native=body)

    assert PROVIDERS[PRICED].price(request, prices) == Cost(amount, "USD", "computed")


def test_the_longest_wait_is_at_least_the_first_one(read: Any) -> None:
    assert read(**KEYS, HIAPI_POLL_SECONDS="90").providers["hiapi"].max_poll_seconds == 90


def test_webhook_secrets_are_listed_newest_first(read: Any) -> None:
    settings = read(**KEYS, HIAPI_WEBHOOK_SECRET="new", HIAPI_WEBHOOK_SECRETS_OLD="old, older")

    secrets = settings.providers["hiapi"].webhook_secrets
    assert [secret.reveal() for secret in secrets] == ["new", "old", "older"]
    assert settings.providers["evolink"].webhook_secrets == ()


def test_the_broker_is_the_ledgers_redis_unless_it_is_set(read: Any) -> None:
    assert read(ORCHESTRATOR_REDIS_URL="redis://host:1/2").broker_url == "redis://host:1/2"
