"""The pages of a job, of unconfirmed attempts and of images at risk, in the browser."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.dashboard.kit import accessible, fits
from tests.dashboard.site import KINDS, PAUSED, SHOP, STUDIO, Kind, Site


def confirm(page: Page, action: str, button: str) -> None:
    """Open the confirmation of an action, and confirm."""
    page.locator("summary", has_text=action).click()
    page.get_by_role("button", name=button).click()


def test_a_job_goes_from_queued_to_succeeded_without_a_reload(page: Page, site: Site) -> None:
    job_id = site.enqueue(Kind("hiapi", "nano-banana-2", "A live one", "slow=3"))
    page.goto(f"/jobs/{job_id}")
    page.evaluate("() => { window.same = true }")

    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    image = page.get_by_alt_text("Image 1")
    expect(image).to_be_visible()
    image.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('.picture img').naturalWidth > 0")
    assert page.evaluate("() => window.same")


def test_a_queued_job_is_cancelled_and_retried(page: Page, site: Site) -> None:
    job_id = site.enqueue(Kind(PAUSED, "nano-banana-2", "A changed mind"))
    page.goto(f"/jobs/{job_id}")
    expect(page.locator("main")).to_contain_text("is paused")

    confirm(page, "Cancel", "Cancel this job")
    expect(page.locator(".notice").first).to_contain_text("The job is cancelled")
    confirm(page, "Retry", "Retry this job")
    expect(page.locator(".notice").first).to_contain_text(f"This new job retries {job_id}")
    confirm(page, "Cancel", "Cancel this job")


def test_an_open_confirmation_stays_open_while_the_page_is_refreshed(
    page: Page, site: Site
) -> None:
    page.goto(f"/jobs/{site.jobs['unconfirmed']}")
    page.locator("summary", has_text="Retry").click()
    page.get_by_label("I accept").check()
    with page.expect_response(lambda answer: answer.status == 200 and "jobs" in answer.url):
        # Without this attribute the request names no ETag, so the answer is the whole part.
        page.evaluate("() => document.querySelector('[data-live]').removeAttribute('data-live')")

    expect(page.get_by_label("I accept")).to_be_checked()


def test_poll_now_and_notify_again(page: Page, site: Site) -> None:
    page.goto(f"/jobs/{site.jobs['running']}")
    confirm(page, "Poll now", "Ask HiAPI")
    expect(page.locator(".notice").first).to_contain_text("asks the provider now")

    page.goto(f"/jobs/{site.jobs['succeeded']}")
    confirm(page, "Notify again", "Send the notification")
    expect(page.locator(".notice").first).to_contain_text("notifies the caller again")


def test_a_link_is_copied(open_page: Callable[..., Page], site: Site) -> None:
    page = open_page(SHOP, permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"/jobs/{site.jobs['succeeded']}")
    page.get_by_role("button", name="Copy link").click()

    expect(page.locator("#announcer")).to_have_text("Copied")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert copied.endswith(f"/jobs/{site.jobs['succeeded']}")


def test_hostile_text_fits_and_runs_nothing(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for name in ("hostile", "failed", "unconfirmed"):
        page.goto(f"/jobs/{site.jobs[name]}")
        for summary in page.locator(".confirm summary").all():
            summary.click()
        fits(page)
        accessible(page)
    expect(page.locator("main script")).to_have_count(0)


def test_another_tenant_sees_nothing(
    open_page: Callable[..., Page], site: Site, faults: object
) -> None:
    faults.allow("404")  # type: ignore[attr-defined]
    page = open_page(STUDIO)
    page.goto(f"/jobs/{site.jobs['succeeded']}")
    expect(page.locator("main")).to_contain_text("There is no such job")
    accessible(page)
    for path in ("/unconfirmed", "/at-risk"):
        page.goto(path)
        expect(page.locator("main")).to_contain_text("No ")
    assert KINDS["succeeded"].tenant != STUDIO


def test_times_name_their_zone(page: Page, open_page: Callable[..., Page], site: Site) -> None:
    page.goto(f"/jobs/{site.jobs['succeeded']}")
    zones = page.locator("[data-zone]")

    for zone in zones.all():
        expect(zone).to_have_text(
            re.compile(r"Times are those of Europe/Berlin \(UTC\+0[12]:00\)\.")
        )
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 800})
        expect(zones.filter(visible=True)).to_have_count(1)
    expect(page.locator("time").first).to_have_attribute("title", re.compile(" UTC$"))
    in_utc = open_page(SHOP, timezone_id="UTC")
    in_utc.goto("/jobs")
    expect(in_utc.locator("[data-zone]").last).to_have_text("Times are in UTC.")


def test_long_names_and_stacked_marks_of_metadata_stay_in_their_place(
    page: Page, site: Site
) -> None:
    marks = "Z" + "\u0335\u0301\u0489" * 60
    metadata = {"x" * 300: "y" * 300, marks: marks}
    job_id = site.enqueue(Kind(PAUSED, "nano-banana-2", "w" * 5000, fields={"metadata": metadata}))
    page.goto(f"/jobs/{job_id}")

    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 800})
        fits(page)
        accessible(page)
    value = page.locator("dd", has_text=marks[:20]).last
    expect(value).to_have_css("overflow", "clip")
