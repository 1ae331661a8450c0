"""The fixtures of the browser: each kind of fault fails a test, and axe-core finds violations."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Error, Page, Route

from tests.dashboard import kit
from tests.dashboard.site import ADMIN, KEYS, Site

#: Nothing listens here: the tests answer the requests.
ORIGIN = "http://127.0.0.1:1"
POLICY = "default-src 'none'; script-src 'self' 'nonce-x'; style-src 'self'"
HEAD = "<!doctype html><html lang=en><title>A page</title>"
#: Name of a fault -> a page with it, and how it is reported.
FAULTY = {
    "inline script": ("<script>var wrong = 1</script>", "policy violation: script-src-elem"),
    "inline style": ("<p style='color: red'>red</p>", "policy violation: style-src-attr"),
    "inline handler": ("<svg onload='alert(1)'></svg>", "policy violation: script-src-attr"),
    "warning": ("<script nonce=x>console.warn('odd')</script>", "console warning: odd"),
    "error": ("<script nonce=x>throw new Error('broken')</script>", "page error: broken"),
    "missing file": ("<script src=/none.js></script>", "status of 404"),
    "broken answer": ("<script src=/broken.js></script>", "status 500: GET"),
}


def show(page: Page, body: str, policy: str = POLICY) -> None:
    """Show a page with this body at the address of the product."""

    def answer(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name in ("none.js", "broken.js"):
            route.fulfill(status=404 if name == "none.js" else 500, body="")
        else:
            headers = {"Content-Security-Policy": policy}
            route.fulfill(body=HEAD + body, content_type="text/html", headers=headers)

    page.unroute_all()
    page.route("**/*", answer)
    page.goto("/page")


def test_every_fault_of_a_page_is_reported(browser: Browser) -> None:
    faults = kit.Faults()

    def visit() -> None:
        with kit.opened(browser, ORIGIN, faults) as page:
            for name, (body, report) in FAULTY.items():
                before = len(faults.found)
                show(page, body)
                page.evaluate(kit.SETTLE)
                new = faults.found[before:]
                assert any(report in line for line in new), (name, new)

    with pytest.raises(kit.PageFaults) as failure:
        visit()
    assert all(report in str(failure.value) for _, report in FAULTY.values())


def test_a_request_to_another_host_is_reported_and_not_sent(browser: Browser) -> None:
    faults = kit.Faults()
    faults.allow("to another host")
    with kit.opened(browser, ORIGIN, faults) as page, pytest.raises(Error, match="NOT_RESOLVED"):
        page.goto("http://other.example/")
    assert faults.found == ["request to another host: http://other.example/"]


def test_a_test_may_expect_a_fault(browser: Browser) -> None:
    faults = kit.Faults()
    faults.allow("status of 404")
    with kit.opened(browser, ORIGIN, faults) as page:
        show(page, "<script src=/none.js></script>")
    assert len(faults.found) == 1


def test_axe_reports_violations_of_every_level(browser: Browser) -> None:
    grey = "<style nonce=x>p { color: #6b6b6b; background: #fff }</style>"
    policy = "default-src 'none'; style-src 'nonce-x'; script-src 'none'"
    with kit.opened(browser, ORIGIN) as page:
        show(page, "<main><h1>A page</h1><p>Text</p></main>", policy)
        kit.accessible(page)
        show(page, f"{grey}<main><h2>A page</h2><p>Text</p><img src=''></main>", policy)
        with pytest.raises(AssertionError) as found:
            kit.accessible(page)
        for rule in ("image-alt (critical)", "page-has-heading-one", "color-contrast-enhanced"):
            assert rule in str(found.value)
        assert "    p\n" in str(found.value)


def test_jobs_of_every_kind_are_there(site: Site) -> None:
    status = {name: site.job(job_id)["status"] for name, job_id in site.jobs.items()}
    assert status["succeeded"] == status["several"] == status["at_risk"] == "succeeded"
    assert status["failed"] == status["unconfirmed"] == "failed"
    assert status["queued"] == status["hostile"] == "queued"
    assert status["running"] == "running"
    assert status["cancelled"] == "cancelled"
    others = {job["id"] for job in site.call("GET", "/v1/jobs", KEYS["studio"])["jobs"]}
    assert others & set(site.jobs.values()) == {site.jobs["other_tenant"]}
    assert KEYS[ADMIN] == site.stack.api_key
