"""The jobs page in a browser: live rows, keys, and a bulk action from the ticks to its end."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.dashboard import kit
from tests.dashboard.site import KINDS, SHOP, STUDIO, Kind, Site

#: Job after job is queued here, because the provider is paused.
QUEUED = KINDS["queued"]


def row(page: Page, job_id: str) -> str:
    return f"tr[id={job_id}]"


def test_new_jobs_appear_and_ticks_and_focus_stay(page: Page, site: Site) -> None:
    known = site.jobs["queued"]
    page.goto("/jobs")
    page.locator(row(page, known)).get_by_role("checkbox").check()
    page.locator(row(page, known)).get_by_role("link").focus()
    page.evaluate("scrollTo(0, 40)")

    new = site.enqueue(QUEUED)

    expect(page.locator(row(page, new))).to_be_visible()
    expect(page.locator("[data-rows] tr").first).to_have_id(new)
    expect(page.locator(row(page, known)).get_by_role("checkbox")).to_be_checked()
    expect(page.locator(row(page, known)).get_by_role("link")).to_be_focused()
    expect(page.locator("[data-ticked]")).to_have_text("1 ticked")
    assert page.evaluate("scrollY") == 40
    site.call("POST", f"/v1/jobs/{new}/cancel")
    expect(page.locator(row(page, new)).locator(".status-cancelled")).to_be_visible()


def test_the_keyboard_moves_ticks_opens_and_searches(page: Page, site: Site) -> None:
    page.goto("/jobs")
    links = page.locator("[data-rows] td.id a")
    page.keyboard.press("j")
    expect(links.first).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator("[data-rows] input").nth(1)).to_be_checked()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    kit.accessible(page)
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("jkx?/")
    expect(page.locator("#q")).to_have_value("jkx?/")
    expect(page.locator("[data-rows] :checked")).to_have_count(1)
    page.locator("#q").fill(site.jobs["hostile"])
    page.keyboard.press("Enter")
    expect(links).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(rf"/jobs/{site.jobs['hostile']}"))


def test_a_table_of_jobs_with_images_shows_them(page: Page, site: Site) -> None:
    page.goto(f"/jobs?q={site.jobs['succeeded']}")

    box = page.locator("td.thumb img").bounding_box()
    assert box
    assert box["width"] == box["height"] == 48


def test_filters_make_a_url_and_name_what_is_wrong(page: Page, faults: kit.Faults) -> None:
    faults.allow("status of 422")
    page.goto("/jobs")
    page.get_by_text("More filters").click()
    page.locator("#f-status").select_option("failed")
    page.get_by_label("Created after (UTC)").fill("yesterday")
    page.get_by_role("button", name="Show the jobs").click()
    expect(page.get_by_label("Created after (UTC)")).to_have_value("yesterday")
    expect(page.get_by_text("created_after must be a time")).to_be_visible()
    kit.accessible(page)
    page.get_by_role("link", name="created after: yesterday").click()
    page.wait_for_url("**/jobs?status=failed")
    expect(page.locator("[data-rows] .status-failed").first).to_be_visible()
    expect(page.locator("[data-rows] tr:not(:has(.status-failed))")).to_have_count(0)


def test_ticked_jobs_are_cancelled_after_a_preview(
    open_page: Callable[..., Page], site: Site
) -> None:
    page = open_page(SHOP)
    ticked = [site.enqueue(QUEUED) for _ in range(2)]
    other = site.enqueue(Kind(QUEUED.provider, QUEUED.model, "A fox", tenant=STUDIO))
    page.goto("/jobs")
    for job_id in ticked:
        page.locator(row(page, job_id)).get_by_role("checkbox").check()
    expect(page.locator(row(page, other))).to_have_count(0)
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("heading", name="Cancel: 2 jobs?")).to_be_visible()
    kit.accessible(page)
    page.get_by_role("button", name="Cancel: 2 jobs").click()

    expect(page.get_by_role("heading", name="Cancel: 2 jobs done")).to_be_visible()
    kit.accessible(page)
    assert {site.job(job_id)["status"] for job_id in ticked} == {"cancelled"}
    assert site.job(other)["status"] == "queued"


def test_all_that_match_are_retried_with_consent(page: Page, site: Site) -> None:
    lost = site.jobs["unconfirmed"]
    page.goto(f"/jobs?q={lost}")
    page.get_by_label("Which jobs").select_option("all")
    page.get_by_role("button", name="Retry…").click()
    page.get_by_label("Retry, too: 1 job").check()
    page.get_by_role("button", name="Retry", exact=True).click()

    expect(page.get_by_role("heading", name="Retry: 1 job done")).to_be_visible()
    page.get_by_role("link", name="Bulk actions").click()
    expect(page.locator("tbody .badge.good").first).to_be_visible()
    kit.accessible(page)
