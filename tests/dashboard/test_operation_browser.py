"""The pages of an operator in the browser: every button, the live parts, and axe."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from orchestrator.clock import now_ms
from orchestrator.ledger import Ledger
from tests.dashboard import kit
from tests.dashboard.kit import accessible, fits
from tests.dashboard.site import HOSTILE, SHOP, STUDIO, Site

#: A provider that the tests pause for a moment.
PROVIDER = "hiapi"


def confirm(page: Page, action: str, button: str) -> None:
    """Open the confirmation of an action, and confirm."""
    page.locator("summary", has_text=action).click()
    page.get_by_role("button", name=button, exact=True).click()


def notice(page: Page, text: str) -> None:
    expect(page.locator(".notice").first).to_contain_text(text)


def test_a_pause_is_seen_by_another_page_without_a_reload(
    page: Page, open_page: Callable[..., Page]
) -> None:
    other = open_page(SHOP)
    other.goto("/providers")
    card = other.locator(f"#provider-{PROVIDER}")
    expect(card).to_contain_text("gets jobs")
    page.goto("/providers")
    page.locator(f"#pause-{PROVIDER} summary").click()
    accessible(page)
    reason = page.get_by_label("Why (others see it)").and_(page.locator(f"#reason-{PROVIDER}"))
    reason.fill(HOSTILE[:300])
    reason.press("Enter")

    notice(page, "HiAPI is paused")
    expect(card).to_contain_text("An operator paused it")
    expect(page.locator(f"#provider-{PROVIDER}")).to_contain_text("<script>alert(1)")
    accessible(page)
    page.get_by_role("button", name="Resume HiAPI").click()
    notice(page, "HiAPI gets jobs again")
    expect(card).to_contain_text("gets jobs")


def test_what_is_typed_stays_while_the_page_is_refreshed(page: Page, site: Site) -> None:
    page.goto("/providers")
    page.locator(f"#pause-{PROVIDER} summary").click()
    reason = page.locator(f"#reason-{PROVIDER}")
    reason.fill("half a sentence")
    with page.expect_response(lambda answer: answer.status == 200 and "/providers" in answer.url):
        site.call("POST", "/v1/providers/evolink/pause")
    expect(page.locator("#provider-evolink")).to_contain_text("paused")
    site.call("POST", "/v1/providers/evolink/resume")

    expect(reason).to_have_value("half a sentence")
    expect(reason).to_be_visible()


def test_a_key_is_made_copied_rotated_and_revoked(
    open_page: Callable[..., Page], faults: kit.Faults
) -> None:
    page = open_page("operator", permissions=["clipboard-read", "clipboard-write"])
    faults.allow("status of 422")
    page.goto("/keys")
    page.locator("summary", has_text="Make a key").click()
    page.locator("#key-tenant").fill(STUDIO)
    page.locator("#key-days").fill("many")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("#key-days-error")).to_contain_text("a whole number from 1 to 3650")
    expect(page.locator("#key-tenant")).to_have_value(STUDIO)
    accessible(page)
    page.locator("#key-days").fill("30")
    page.locator("#key-name").fill("browser test")
    page.get_by_role("button", name="Make the key").click()

    page.get_by_role("button", name="Copy the key").click()
    expect(page.locator("#announcer")).to_contain_text("Copied")
    key = page.evaluate("() => navigator.clipboard.readText()")
    assert re.fullmatch(r"orch_[0-9a-f]{48}", key)
    accessible(page)
    row = page.locator("tr", has_text="browser test")
    row.locator("summary", has_text="Rotate").click()
    page.get_by_role("button", name="Make the new key").click()
    expect(page.locator(".secret")).to_contain_text("works for 24 hours more")
    assert key not in page.content()
    page.goto("/keys")
    for _ in range(2):
        row = page.locator("tr", has_text="browser test").filter(has_text="in use").first
        row.locator("summary", has_text="Revoke").click()
        accessible(page)
        row.get_by_role("button", name="Revoke key_").click()
        notice(page, "is revoked")
    expect(page.locator("tr", has_text="browser test").filter(has_text="in use")).to_have_count(0)


def test_the_limits_of_a_tenant_are_set(page: Page, site: Site) -> None:
    page.goto("/keys")
    page.get_by_label("Set the limits of a tenant").fill(STUDIO)
    page.get_by_role("button", name="Open").click()
    page.locator("#max_open").fill("5000")
    page.get_by_role("button", name="Store").click()

    notice(page, f"The settings of {STUDIO} are stored")
    expect(page.locator("#max_open")).to_have_value("5000")
    page.get_by_label("Make a new one").check()
    page.get_by_role("button", name="Store").click()
    expect(page.locator(".secret")).to_contain_text("whsec_")
    accessible(page)
    page.goto("/audit?action=tenant+set")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Who").fill("nobody")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("main")).to_contain_text("No entry matches")


def test_a_failed_notification_is_sent_again_and_all_lead_to_a_preview(
    page: Page, site: Site
) -> None:
    page.goto("/deliveries")
    row = page.locator(f"#{site.jobs['not_notified']}")
    expect(row).to_be_visible()
    page.get_by_role("button", name="Send all again").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert "/bulk/" in page.url
    page.goto("/deliveries")
    page.get_by_label("All on this page").check()
    expect(page.locator("[data-ticked]")).to_contain_text("1 ticked")
    page.get_by_role("button", name="Send the ticked again").click()
    expect(page).to_have_url(re.compile("/bulk/"))

    page.goto("/deliveries")
    row.get_by_role("button", name="Send again").click()
    notice(page, "is sent again, soon")
    expect(row).to_have_count(0)


def test_a_test_is_sent(page: Page, site: Site) -> None:
    page.goto("/deliveries")
    page.get_by_label("URL of the receiver").fill(f"{site.stack.sandbox_url}/inbox/tests")
    page.get_by_role("button", name="Send the test").click()

    expect(page.locator("#sent")).to_contain_text("accepted the test")
    accessible(page)


def test_rejected_messages_are_read_again_and_deleted(page: Page, site: Site) -> None:
    assert site.stack.redis_url
    rejected = Ledger.from_url(site.stack.redis_url).rejected
    for body in (HOSTILE, "{"):
        rejected.keep(
            "callback", now=now_ms(), reason=HOSTILE, body=body.encode(), provider="hiapi"
        )
    page.goto("/rejected")
    page.locator("summary", has_text="The body").first.click()
    accessible(page)
    fits(page)
    page.get_by_role("button", name="Read it again").first.click()
    notice(page, "rejected again")
    for _ in range(2):
        page.locator("summary", has_text="Delete").first.click()
        page.get_by_role("button", name="Delete this message").first.click()
        notice(page, "is deleted")
    expect(page.locator("main")).to_contain_text("No message was rejected")


def test_the_checks_come_without_a_reload(page: Page) -> None:
    page.goto("/system")
    expect(page.locator("tbody")).to_contain_text("recorder")
    page.get_by_role("button", name="Check this installation").click()
    page.evaluate("() => { window.same = true }")

    expect(page.get_by_role("button", name="Check again")).to_be_visible()
    expect(page.locator("#live")).to_contain_text("results need somebody")
    assert page.evaluate("() => window.same")
    accessible(page)
    page.set_viewport_size({"width": 360, "height": 740})
    fits(page)
