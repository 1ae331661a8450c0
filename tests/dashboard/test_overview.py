"""The overview: what needs somebody, figures of a tenant or of all, and lines over time."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from orchestrator.jobs.model import FollowUpStatus, Image, Outcome, Step
from tests.dashboard.site import ADMIN, KEYS, PAUSED, SHOP, STUDIO, WAIT_SECONDS, Kind, Site
from tests.dashboard.visitor import Visitor
from tests.support import job_states, notify_kit
from tests.support.fakes import NOON, Harness


def figure(page: Page, label: str) -> int:
    """The number under a label."""
    text = page.locator(".figure", has=page.get_by_text(label, exact=True)).first.inner_text()
    return int(text.split("\n")[1].split()[0].replace(",", ""))


def created(site: Site, tenant: str) -> int:
    """The number of a tenant's jobs. Other tests make some."""
    return len(site.call("GET", "/v1/jobs?limit=200", KEYS[tenant])["jobs"])


def test_what_needs_somebody_is_first(page: Page, site: Site) -> None:
    page.goto("/")

    concerns = page.get_by_label("What needs somebody")
    expect(concerns).to_contain_text("1 job with images that may be lost")
    expect(concerns).to_contain_text("unconfirmed attempt")
    expect(concerns).to_contain_text(f"{PAUSED} is paused")


def test_figures_lead_to_their_jobs(page: Page, site: Site) -> None:
    page.goto("/?span=month")
    failed = figure(page, "failed")
    page.locator(".figure").get_by_role("link", name="failed", exact=True).click()

    expect(page.locator("[data-rows] tr")).to_have_count(failed)


def test_the_processes_that_run_are_counted(page: Page, site: Site) -> None:
    page.goto("/")

    for kind in ("beat", "recorder", "worker"):
        assert figure(page, kind) == 1


def test_a_new_job_appears_without_a_reload(page: Page, site: Site) -> None:
    page.goto("/")
    page.evaluate("() => { window.same = true }")
    before = figure(page, "created")

    site.enqueue(Kind("hiapi", "nano-banana-2", "A late guest"))

    page.wait_for_function(
        """([label, before]) => [...document.querySelectorAll(".figure")].some(
            (figure) => figure.querySelector("dt").textContent.trim() === label
                && parseInt(figure.querySelector("b").textContent.replace(",", "")) > before)""",
        arg=["created", before],
    )
    assert page.evaluate("() => window.same")


def test_a_tenant_sees_its_own_figures_only(open_page: Callable[..., Page], site: Site) -> None:
    page = open_page(STUDIO)
    page.goto("/")

    assert figure(page, "created") == created(site, STUDIO)
    expect(page.locator("body")).not_to_contain_text("is paused")
    expect(page.locator("body")).not_to_contain_text("may be lost")


def test_a_tenant_sees_first_what_needs_it(start: Callable[..., Harness]) -> None:
    harness = start(**notify_kit.VARIABLES)
    soon = Image("https://images.example/0.png", expires_at=NOON + 3_600_000)
    job_states.ended(harness, Outcome.succeeded((soon,)), tenant=SHOP)
    job_states.given_up(harness, tenant=SHOP)
    job_id = job_states.refused(harness, tenant=SHOP, notify_url="https://shop.example/hook")
    lease = harness.ledger.follow_ups.claim(job_id, Step.NOTIFY, now=NOON, lease_ms=1000)
    assert lease
    harness.ledger.follow_ups.done(lease, Step.NOTIFY, FollowUpStatus.DEAD, now=NOON, tries=9)
    visitor = Visitor(harness, own=True).signed_in()

    page = visitor.text(f"/?tenant={SHOP}")

    texts = "1 job with images that may be lost", "Unconfirmed attempts", "Failed notifications"
    places = [page.index(text) for text in texts]
    assert places == sorted(places)
    assert places[-1] < page.index("<h2>Now</h2>")
    assert "What needs somebody" not in visitor.text(f"/?tenant={STUDIO}")


def test_an_administrator_chooses_a_tenant(page: Page, site: Site) -> None:
    page.goto("/")
    page.get_by_label("Tenant").select_option(STUDIO)

    expect(page.get_by_role("heading", level=1)).to_have_text(f"Overview of {STUDIO}")
    assert figure(page, "created") == created(site, STUDIO)


def test_the_chart_is_drawn_and_has_the_values(page: Page, site: Site) -> None:
    page.goto("/?span=hour")

    chart = page.locator("time-chart").first
    expect(chart.locator("canvas")).to_be_visible()
    values = json.loads(chart.get_attribute("data-chart") or "")
    assert len(values["times"]) == len(values["lines"][0]["values"]) == 60
    assert sum(values["lines"][0]["values"]) == figure(page, "created")


@pytest.mark.parametrize("who", [ADMIN, SHOP])
def test_a_wrong_span_is_a_sentence(
    who: str, open_page: Callable[..., Page], faults: object
) -> None:
    faults.allow("422")  # type: ignore[attr-defined]
    page = open_page(who)
    page.goto("/?span=year")

    expect(page.locator("main")).to_contain_text("span must be")


def test_a_lost_connection_is_shown_until_it_is_back(
    page: Page, site: Site, faults: object
) -> None:
    faults.allow("Failed to load resource")  # type: ignore[attr-defined]
    faults.allow("Failed to fetch")  # type: ignore[attr-defined]
    page.goto("/")
    banner = page.locator("#connection")
    expect(banner).to_be_hidden()

    page.context.set_offline(True)
    expect(banner).to_be_visible()
    page.context.set_offline(False)
    expect(banner).to_be_hidden()


def test_without_scripts_the_menu_is_there(open_page: Callable[..., Page], site: Site) -> None:
    page = open_page(ADMIN, java_script_enabled=False)
    page.goto("/jobs")

    expect(
        page.get_by_text("ticked", exact=False).and_(page.locator(".needs-script"))
    ).to_be_hidden()
    page.get_by_role("link", name="Money").click()
    page.wait_for_url("**/money")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_page_in_a_hidden_tab_asks_nothing(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => window.isHidden})")
    page.goto("/")
    page.evaluate("window.isHidden = true")
    asked.clear()
    page.clock.run_for(20_000)
    assert asked == []

    page.evaluate("window.isHidden = false")
    with page.expect_request("**/*", timeout=WAIT_SECONDS * 1000):
        page.clock.run_for(4000)
