"""Bulk actions from the jobs page: preview, start, progress, and who may do what."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from typing import Any

import orjson
import pytest

from orchestrator.operations.bulk import NO_SUCH_JOB
from orchestrator.steps.bulk import act_on_part
from tests.api.conftest import KEY
from tests.dashboard.test_jobs import KEYS, SHOP_KEY
from tests.dashboard.visitor import Visitor
from tests.support import job_states
from tests.support.fakes import Harness

PRICES = orjson.dumps({"unit": "USD", "prices": {"Nano-Banana-2": 0.1}}).decode()


@pytest.fixture
def admin(start: Callable[..., Harness]) -> Visitor:
    return Visitor(start(ORCHESTRATOR_API_KEYS=KEYS, HIAPI_PRICES=PRICES)).signed_in()


def previewed(visitor: Visitor, action: str, path: str = "/bulk", **form: Any) -> str:
    """Preview an action. Return the path of its page."""
    answer = visitor.send(path, {"action": action, **form})
    assert answer.status_code == 303, answer.text
    location = str(answer.headers["Location"])
    assert location.startswith("/bulk/bulk_"), location
    return location


def figure(page: str, label: str) -> str:
    found = re.search(rf"<dt>(?:<a[^>]*>)?{label}(?:</a>)?</dt>\s*<dd><b>([^<]*)</b>", page)
    assert found, (label, page)
    return found[1]


def test_the_ticked_jobs_are_previewed_and_then_acted_on(admin: Visitor) -> None:
    harness = admin.harness
    ticked, failed = harness.enqueue(), job_states.refused(harness)
    other = harness.enqueue()

    page = previewed(admin, "cancel", job=[ticked, failed, ticked], which="ticked")
    before = admin.read(page)
    assert (figure(before, "Found"), figure(before, "Applies to")) == ("2", "1")
    assert figure(before, "Saved, about") == "0.10 USD"
    assert "it is failed; only a queued job can be cancelled" in before
    assert harness.job(ticked).status == "queued", "a preview does nothing"

    assert admin.send(f"{page}/start").headers["Location"] == page
    running = admin.read(page)
    assert ">running</span>" in running
    assert figure(running, "Left") == "1"
    act_on_part(harness.runtime, inf)
    done = admin.text(page, live=True)
    assert figure(done, "Done") == "1"
    assert ">done</span>" in done
    assert [harness.job(job_id).status for job_id in (ticked, other)] == ["cancelled", "queued"]
    [entry] = harness.ledger.audit.entries(9)
    assert (entry.actor, entry.action) == ("admin:ops", "bulk_cancel")


def test_all_that_match_the_filter_of_the_url_are_acted_on(admin: Visitor) -> None:
    harness = admin.harness
    for _ in range(3):
        job_states.refused(harness)
    job_states.refused(harness, tenant="shop")
    harness.enqueue()

    page = admin.read(
        previewed(admin, "retry", "/bulk?status=failed&unconfirmed=false", which="all")
    )
    assert figure(page, "Found") == "4"
    assert 'href="/jobs?status=failed&unconfirmed=false"' in page
    own = admin.read(previewed(admin, "retry", "/bulk?status=failed&tenant=shop", which="all"))
    assert figure(own, "Found") == "1"


def test_a_running_action_is_listed_and_can_be_stopped(admin: Visitor) -> None:
    job_id = admin.harness.enqueue()
    path = previewed(admin, "cancel", which="all")
    assert "No bulk action yet" in admin.read("/bulk")
    admin.send(f"{path}/start")

    assert f'href="{path}"' in admin.read("/bulk")
    assert f'href="{path}"' not in admin.other(KEY).read("/bulk"), "it is of all tenants"
    assert admin.other(KEY).send(f"{path}/stop").status_code == 404
    admin.send(f"{path}/stop")
    act_on_part(admin.harness.runtime, inf)
    assert ">stopped</span>" in admin.read(path)
    assert admin.harness.job(job_id).status == "queued"


@pytest.mark.parametrize(("risk", "status"), [("0", "refused"), ("1", "done")])
def test_a_retry_that_may_pay_twice_needs_consent(admin: Visitor, risk: str, status: str) -> None:
    job_id = job_states.given_up(admin.harness)
    path = previewed(admin, "retry", job=[job_id], which="ticked")
    page = admin.read(path)
    assert "1 job may have been charged already" in page
    assert "This may pay 0.10 USD a second time." in page
    assert figure(page, "At risk") == "0.10 USD"

    admin.send(f"{path}/start", {"accept_risk": risk})
    act_on_part(admin.harness.runtime, inf)
    page = admin.read(path)
    assert figure(page, status.capitalize()) == "1"
    assert ("may pay twice" in page) == (status == "refused")


def test_a_tenant_previews_and_sees_its_own_only(admin: Visitor) -> None:
    harness = admin.harness
    own, other = harness.enqueue(), harness.enqueue(tenant="shop")
    tenant, shop = admin.other(KEY), admin.other(SHOP_KEY)

    page = tenant.read(previewed(tenant, "cancel", job=[own, other], which="ticked"))
    assert figure(page, "Applies to") == "1"
    assert NO_SUCH_JOB in page
    everything = previewed(tenant, "cancel", "/bulk?tenant=shop", which="all")
    assert figure(tenant.read(everything), "Found") == "1"
    assert shop.client.get(everything).status_code == 404
    assert shop.send(f"{everything}/start").status_code == 404
    assert admin.client.get(everything).status_code == 200
    assert tenant.client.get(previewed(admin, "cancel", which="all")).status_code == 404
    assert harness.ledger.audit.entries(9) == []


def test_a_form_without_a_token_or_with_nonsense_does_nothing(admin: Visitor) -> None:
    job_id = admin.harness.enqueue()
    path = previewed(admin, "cancel", job=[job_id], which="ticked")

    assert admin.client.post(f"{path}/start").status_code == 403
    assert admin.client.post("/bulk", data={"action": "cancel", "which": "all"}).status_code == 403
    for path, form, status in (
        ("/bulk", {"action": "delete", "which": "all"}, 422),
        ("/bulk", {"action": "cancel", "job": "<script>"}, 422),
        ("/bulk", {"action": "cancel", "job": [job_id] * 201}, 422),
        ("/bulk?status=gone", {"action": "cancel", "which": "all"}, 422),
        ("/bulk/bulk_" + "0" * 26 + "/start", {}, 404),
    ):
        answer = admin.send(path, form)
        assert answer.status_code == status, (path, form)
        assert "<script>&" not in answer.text
    nothing = admin.send("/bulk?q=x", {"action": "cancel", "which": "ticked"})
    assert nothing.headers["Location"] == "/jobs?q=x"
    assert "Tick the jobs first" in admin.read("/jobs?q=x")
    assert admin.harness.job(job_id).status == "queued"
