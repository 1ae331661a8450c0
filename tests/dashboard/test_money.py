"""Money: sums by unit, days, budgets, a file for a spreadsheet, and one tenant's money only."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from tests.dashboard.site import SHOP, STUDIO, Site
from tests.dashboard.visitor import Visitor
from tests.support.fakes import Harness


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


def test_a_budget_that_is_used_up_is_named(start: Callable[..., Harness], tmp_path: Path) -> None:
    made = start(HIAPI_PRICES='{"unit": "USD", "prices": {"*": 0.25}}')
    history = History(f"sqlite:///{tmp_path}/history.db")
    harness = made.with_runtime(open_history=lambda: history)
    visitor = Visitor(harness, own=True).signed_in()
    for tenant, amount in {SHOP: "0.25", STUDIO: "0.5"}.items():
        visitor.send(f"/keys/tenants/{tenant}", {"budget.hiapi": amount, "secret": "keep"})

    recorder = Recorder(harness.ledger, history, harness.clock)
    for _ in range(3):  # begins, reads all jobs, completes
        recorder.record()
    for tenant in (SHOP, STUDIO):
        harness.enqueue(tenant=tenant)

    assert visitor.text("/money").count("used up") == 1
    budget = "The budget of today at hiapi is used up"
    assert budget in visitor.text(f"/?tenant={SHOP}")
    assert budget not in visitor.text(f"/?tenant={STUDIO}")
    history.close()
