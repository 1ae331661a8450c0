"""The tables of docs/providers against the adapters; test_registry.py holds the pages' form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.jobs.model import ErrorCode
from orchestrator.providers import BUILT_IN
from orchestrator.providers.catalog import limits
from orchestrator.providers.evolink import ERROR_TYPES
from orchestrator.providers.hiapi import ERROR_CODES
from orchestrator.providers.responses import by_status
from orchestrator.providers.uniall import SIZES

DOCS = Path(__file__).resolve().parents[2] / "docs" / "providers"
PAGES = {name: (DOCS / f"{name}.md").read_text("utf-8") for name in BUILT_IN}
TIERS = ("1K", "2K", "4K")
#: A row of an errors' table that begins with statuses: statuses, our code, tried again.
STATUS_ROW = re.compile(r"(?m)^\| ([\d, ]+) (?:\[doc\] )?\| (?:`\w+` \| )?`(\w+)` \| (\w+)")
#: One that begins with the provider's own code.
CODE_ROW = re.compile(r"(?m)^\| (?:\d+ \| )?`(\w+)` \| `(\w+)` \| (no|yes|after)\b")


def test_the_table_of_sizes_is_the_adapters() -> None:
    rows = re.findall(r"(?m)^\| (\d+:\d+) \| (.*?) ?\|$", PAGES["uniall"])
    told = {
        (ratio, tier): re.findall(r"`(\d+x\d+)`", cell)
        for ratio, cells in rows
        for tier, cell in zip(TIERS, cells.split(" |"), strict=True)
    }

    assert len(SIZES) == 48
    assert {size: there for there, sizes in told.items() for size in sizes} == SIZES
    for there, sizes in told.items():
        assert sizes == [size for size in SIZES if SIZES[size] == there]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_list_of_values_stands_in_the_page(name: str) -> None:
    for model in BUILT_IN[name].models.values():
        for option in set(model.options) - set(model.values):
            told = limits(model, option)
            assert ", ".join(told.get("one_of", [])) in PAGES[name]
            for bound in ("max", "max_length"):
                assert str(told.get(bound, "")) in PAGES[name]


@pytest.mark.parametrize("name", ["uniall", "evolink", "aigptimage"])
def test_a_status_leads_where_the_page_says(name: str) -> None:
    rows = STATUS_ROW.findall(PAGES[name])

    assert len(rows) > 7
    for statuses, code, again in rows:
        for status in map(int, statuses.split(", ")):
            assert by_status(status) == (ErrorCode(code), again in ("yes", "after")), status


@pytest.mark.parametrize(
    ("name", "table"), [("evolink", ERROR_TYPES), ("hiapi", ERROR_CODES)], ids=["evolink", "hiapi"]
)
def test_a_providers_code_leads_where_the_page_says(
    name: str, table: dict[str, tuple[ErrorCode, bool]]
) -> None:
    told = {
        theirs: (ErrorCode(ours), again in ("yes", "after"))
        for theirs, ours, again in CODE_ROW.findall(PAGES[name])
    }

    assert told == table


@pytest.mark.parametrize("name", BUILT_IN)
def test_its_default_times_and_address_stand_in_the_page(name: str) -> None:
    provider, page = BUILT_IN[name], PAGES[name]

    [times] = re.findall(rf"`{name.upper()}_MAX_POLL_SECONDS` \| .*default (\d+ and \d+) ", page)
    assert times == f"{provider.poll_seconds:g} and {provider.max_poll_seconds:g}"
    assert provider.base_url is None or f"default `{provider.base_url}`" in page
    assert f"`{name.upper()}_PRICES`" in page


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_family_stands_in_the_page(name: str) -> None:
    for family in BUILT_IN[name].families:
        assert f"`{family}`" in PAGES[name]
