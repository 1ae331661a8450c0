"""The jobs page: what it finds, what it shows, and whose jobs."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.dashboard.jobs import PAGE_JOBS
from orchestrator.operations import dashboard_links
from orchestrator.operations.filters import FILTERS
from orchestrator.operations.rerun import retry
from tests.api.conftest import KEY
from tests.dashboard.visitor import HOSTILE, Visitor, assert_harmless
from tests.support import job_states
from tests.support.fakes import TENANT, Harness

SHOP_KEY = "key-of-the-shop-of-tests"
KEYS = f"{TENANT}:{KEY},shop:{SHOP_KEY}"
LIVE = {"HX-Request": "true"}


@pytest.fixture
def admin(start: Callable[..., Harness]) -> Visitor:
    return Visitor(start(ORCHESTRATOR_API_KEYS=KEYS)).signed_in()


def shown(visitor: Visitor, path: str = "/jobs") -> list[str]:
    """The ids of the rows, in their order."""
    return re.findall(r'<tr id="(job_\w+)">', visitor.read(path))


def test_the_newest_jobs_come_first_and_older_pages_have_urls(admin: Visitor) -> None:
    jobs = [admin.harness.enqueue() for _ in range(PAGE_JOBS + 2)][::-1]

    assert shown(admin) == jobs[:PAGE_JOBS]
    [older] = re.findall(r'href="(/jobs\?cursor=job_\w+)" rel="next"', admin.read("/jobs"))
    assert shown(admin, older) == jobs[PAGE_JOBS:]
    page = admin.read(older)
    assert 'href="/jobs">Newest' in page
    assert 'rel="next"' not in page
    assert shown(admin, "/jobs?cursor=%00") == jobs[:PAGE_JOBS], "another cursor is ignored"


def test_each_filter_is_kept_in_the_url_and_can_be_removed(admin: Visitor) -> None:
    harness = admin.harness
    found = job_states.refused(harness, "evolink", metadata={"order": {"id": "A 1"}})
    other = job_states.running(harness, tenant="shop")
    urls = {
        "status": "failed",
        "provider": "evolink",
        "tenant": TENANT,
        "error": "content_policy",
        "metadata.order.id": "A 1",
        "created_before": "2099-01-01",
        "unconfirmed": "false",
        "at_risk": "0",
        "model": harness.job(found).model,
        "q": found,
    }
    asked = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in urls.items())
    page = admin.read(f"/jobs?{asked}")

    assert re.findall(r'<tr id="(job_\w+)">', page) == [found]
    for name, value in urls.items():
        assert f'name="{name}"' in page
        links = {
            link for link in re.findall(r'href="(/jobs\?[^"]*)"', page) if "cursor" not in link
        }
        queries = [set(parse_qs(urlsplit(link).query)) for link in links]
        assert name == "tenant" or set(urls) - {name} in queries, f"{name}={value} has no chip"
    assert all(f'name="{name}"' in page for name in FILTERS if "<" not in name)
    assert shown(admin, f"/jobs?task_id={job_states.task_of(other)}") == [other]
    assert shown(admin, "/jobs?created_after=2099-01-01") == []


def test_a_form_is_answered_with_a_clean_url(admin: Visitor) -> None:
    sent = "q=&status=failed&model=&metadata_key=order&metadata_value=A+1&tenant="
    answer = admin.client.get(f"/jobs?{sent}")

    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        "/jobs?status=failed&metadata.order=A+1",
    )
    kept = admin.read(answer.headers["Location"])
    assert 'name="metadata.order" value="A 1"' in kept
    assert "No job matches" in kept


def test_a_wrong_filter_is_named_at_its_field(admin: Visitor) -> None:
    admin.harness.enqueue()
    answer = admin.client.get(
        "/jobs?status=faild&created_after=yesterday&statsu=x&endpoint=1&metadata.=1"
    )
    page = answer.text

    assert answer.status_code == 422
    assert "<tr id=" not in page
    assert "<option selected>faild</option>" in page
    assert 'value="yesterday" spellcheck="false" autocomplete="off" aria-invalid="true"' in page
    assert re.search(r'id="f-created_after-error">created_after must be a time', page)
    assert "did you mean failed?" in page
    assert "statsu is not a known field; did you mean status?" in page
    assert "No search was made" in page
    assert admin.client.get("/jobs?status=faild", headers=LIVE).status_code == 200


def test_a_tenant_sees_its_own_jobs_only(admin: Visitor) -> None:
    harness = admin.harness
    own, other = harness.enqueue(), harness.enqueue(tenant="shop")
    tenant = admin.other(KEY)

    assert shown(admin) == [other, own]
    assert shown(admin, "/jobs?tenant=shop") == [other]
    for path in ("/jobs", "/jobs?tenant=shop", "/jobs?status=queued"):
        assert shown(tenant, path) == [own]
        assert other not in tenant.read(path)
    assert shown(tenant, f"/jobs?q={other}") == []
    assert "shop" not in tenant.text("/jobs", live=True)


def test_a_session_that_reads_has_no_actions(admin: Visitor) -> None:
    job_id = admin.harness.enqueue()
    reader = Visitor(admin.harness)
    url, _ = dashboard_links.make(admin.harness.runtime, TENANT, lifetime_ms=60_000, actor="tests")
    reader.client.get(url[url.index("/link") :])
    page = reader.read("/jobs")

    assert shown(reader) == [job_id]
    assert 'id="bulk"' not in page
    assert 'name="job"' not in page
    answer = reader.send("/bulk", {"action": "cancel", "which": "all"})
    assert answer.status_code == 403
    assert "can read only" in answer.text


def test_text_from_outside_is_shown_and_does_nothing(admin: Visitor) -> None:
    harness = admin.harness
    harness.enqueue(prompt=HOSTILE, metadata={"<b>": HOSTILE[:200]})
    assert_harmless(admin.text("/jobs"))
    name = "%3Cscript%3E%1B%E2%80%AE"
    asked = admin.client.get(f"/jobs?q={name}&metadata.{name}={name}&{name}={name}").text
    assert "<script>\x1b" not in asked
    assert "&lt;script&gt;\\x1b\\u202e" in asked


def test_tabs_count_what_counters_know(admin: Visitor) -> None:
    harness = admin.harness
    harness.enqueue()
    job_states.refused(harness)
    job_states.refused(harness, tenant="shop")

    def numbers(visitor: Visitor, path: str = "/jobs") -> dict[str, str]:
        tab = r'<a href="[^"]*status=(\w+)[^"]*"[^>]*>\w+ <span[^>]*>([\d,]+)</span>'
        return dict(re.findall(tab, visitor.read(path)))

    assert numbers(admin)["queued"] == "1"
    assert numbers(admin)["failed"] == "2"
    assert numbers(admin, "/jobs?tenant=shop")["failed"] == "1"
    assert numbers(admin, "/jobs?tenant=shop")["queued"] == "0"
    own = numbers(admin.other(KEY))
    assert own["failed"] == "1"
    assert "queued" not in own, "nothing counts the open jobs of a tenant by status"
    assert numbers(admin, "/jobs?provider=hiapi") == {}


def test_a_row_says_what_its_job_waits_for_and_what_is_wrong(admin: Visitor) -> None:
    harness = admin.harness
    harness.enqueue()
    job_states.refused(harness)
    job_states.running(harness)
    page = admin.read("/jobs")

    assert "waits for a worker" in page
    assert "waits for its images" in page
    assert "content policy" in page


def test_a_row_says_that_its_job_was_retried(admin: Visitor) -> None:
    harness = admin.harness
    failed = job_states.refused(harness)
    retry(harness.runtime, harness.job(failed), actor="test", accept_risk=False)

    assert admin.read("/jobs?status=failed").count('<small class="">retried</small>') == 1


def test_no_jobs_teach_how_to_enqueue_one(admin: Visitor) -> None:
    page = admin.read("/jobs")

    assert "No jobs yet" in page
    assert "curl http://localhost/v1/jobs" in page


def test_the_live_part_has_new_jobs_and_is_not_made_again_without_a_change(
    admin: Visitor,
) -> None:
    admin.harness.enqueue()
    first = admin.client.get("/jobs", headers=LIVE)
    headers = {**LIVE, "If-None-Match": first.headers["ETag"]}
    assert admin.client.get("/jobs", headers=headers).status_code == 304

    new = admin.harness.enqueue()
    assert new in admin.client.get("/jobs", headers=headers).text


def test_a_search_for_a_number_of_the_callers_own_leads_to_the_metadata(admin: Visitor) -> None:
    assert "is in the metadata" in admin.read("/jobs?q=4711")
