"""Money: sums by unit, days, budgets, a file for a spreadsheet, and one tenant's money only."""

from __future__ import annotations

import csv
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.dashboard.site import SHOP, STUDIO, Site


def test_the_page_and_the_file_agree_with_the_report(page: Page, site: Site) -> None:
    report = site.call("GET", "/v1/reports/usage?by=tenant,provider,day")
    charged: dict[str, float] = {}
    for row in report["rows"]:
        if row["unit"]:
            known = row["cost_reported"] + row["cost_computed"]
            charged[row["unit"]] = charged.get(row["unit"], 0) + known
    page.goto("/money?days=30")

    for unit, amount in charged.items():
        expect(page.locator(".figures")).to_contain_text(f"{amount:,.2f} {unit}")
    answer = page.request.get("/money.csv?days=30")
    rows = list(csv.DictReader(answer.text().splitlines()))
    assert answer.headers["content-type"].startswith("text/csv")
    for unit, amount in charged.items():
        of_unit = [float(r["reported"]) + float(r["computed"]) for r in rows if r["unit"] == unit]
        assert abs(sum(of_unit) - amount) < 1e-6


def test_a_tenant_sees_its_own_money_only(open_page: Callable[..., Page], site: Site) -> None:
    page = open_page(STUDIO)
    page.goto("/money")

    expect(page.get_by_role("table").last).to_be_visible()
    text = page.request.get(f"/money.csv?tenant={SHOP}").text()
    assert {row["tenant"] for row in csv.DictReader(text.splitlines())} == {STUDIO}
