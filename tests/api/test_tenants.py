"""Who sees what: a tenant's jobs exist for its own keys and for administrators only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from werkzeug.routing import Rule

from orchestrator.api.auth import DASHBOARD, PUBLIC_ENDPOINTS
from orchestrator.operations.keys import create_key, revoke_key, rotate_key
from orchestrator.operations.tenants import set_tenant
from orchestrator.security.api_keys import KEY_CHARACTERS, Scope
from tests.api.conftest import UNIFIED, Api, Open
from tests.support import job_states
from tests.support.fakes import TENANT
from tests.support.web import WebApp
from webhooks.app import create_app

#: Routes with a key that show nothing of a job, so every key may use them.
SHARED = {"providers.show", "models.models", "models.model"}
#: Routes about the caller's own tenant. Other tests look at what they show.
OWN = {"jobs.create", "jobs.browse", "stats.show", "reports.usage", "bulk.create", "bulk.list_"}
OWN |= {"batches.create", "quotes.create"}
#: These make jobs of the caller's tenant, or join them.
OWN |= {"openai.generate", "openai.edit", "gemini.generate", "gemini.stream"}
#: The pages of the dashboard ask for a session. tests/dashboard looks at them.
PAGES = f"{DASHBOARD}."
#: Parts of the routes about a thing of one tenant.
OF_ONE = ("<job_id>", "<batch_id>", "<bulk_id>")


def key_of(api: Api, tenant: str, *scopes: Scope, expires_in_ms: int | None = None) -> str:
    """Make a key of a tenant."""
    chosen = scopes or (Scope.JOBS_READ, Scope.JOBS_WRITE)
    made = create_key(
        api.harness.runtime,
        actor="tests",
        tenant=tenant,
        scopes=chosen,
        expires_in_ms=expires_in_ms,
    )
    return made[0]


PRICES = '{"unit": "credits", "prices": {"Nano-Banana-2": 1.5}}'


@pytest.fixture
def other(api: Api) -> Api:
    """The API as another tenant sees it, with every scope but `admin`."""
    return api.with_key(key_of(api, "other"))


def calls(rule: Rule, job_id: str) -> Iterator[tuple[str, str]]:
    """Yield the method and the path of every call of a route, for a job."""
    path = re.sub("<int:[^>]+>", "0", rule.rule.replace("<job_id>", job_id))
    path = re.sub("<[^>]+>", "hiapi", path)
    for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
        yield method, path


def test_another_tenants_job_is_404_in_every_route(api: Api, other: Api) -> None:
    job_id = job_states.ended(api.harness)
    missing = f"job_{'0' * 28}"
    checked = set()

    for rule in WebApp(api.harness.runtime).app().url_map.iter_rules():
        if rule.endpoint in PUBLIC_ENDPOINTS | SHARED | OWN or rule.endpoint.startswith(PAGES):
            continue
        # A route that is not about a job is for administrators, or listed above.
        expected = 404 if any(name in rule.rule for name in OF_ONE) else 403
        for (method, path), (_, absent) in zip(
            calls(rule, job_id), calls(rule, missing), strict=True
        ):
            client = other.app.test_client()
            response = client.open(path, method=method, headers=other.headers)
            unknown = client.open(absent, method=method, headers=other.headers)

            assert response.status_code == expected, (method, path)
            assert response.text.replace(job_id, missing) == unknown.text, (
                "the answers are the same"
            )
            checked.add(rule.endpoint)
    assert {"jobs.show", "jobs.events", "actions.cancel", "images.show"} <= checked
    assert {"providers.pause", "providers.resume", "bulk.stop", "rejected.delete"} <= checked
    assert {e.action for e in api.harness.ledger.audit.entries(10)} == {"key_create"}


def test_every_route_but_the_public_ones_asks_for_a_key(api: Api) -> None:
    client = api.app.test_client()

    for rule in WebApp(api.harness.runtime).app().url_map.iter_rules():
        for method, path in calls(rule, "job_x"):
            if rule.endpoint.startswith(PAGES):
                continue
            public = rule.endpoint in PUBLIC_ENDPOINTS
            assert (client.open(path, method=method).status_code == 401) != public, path


def test_a_foreign_key_changes_nothing(api: Api, other: Api) -> None:
    job_id = api.created()

    assert other.post(f"/v1/jobs/{job_id}/cancel").status_code == 404
    assert api.harness.job(job_id).status == "queued"


def listed(api: Api, query: str = "") -> list[str]:
    answer = api.get(f"/v1/jobs{query}")
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in (answer.json or {})["jobs"]]


def test_a_list_shows_the_jobs_of_the_callers_tenant(api: Api, other: Api) -> None:
    own = [api.created() for _ in range(2)][::-1]
    foreign = other.created()

    assert listed(api) == own
    assert listed(other) == [foreign]
    assert listed(api.as_admin()) == [foreign, *own]
    assert listed(api.as_admin(), f"?tenant={TENANT}") == own
    assert listed(api, f"?tenant={TENANT}") == own
    assert api.get("/v1/jobs?tenant=other").status_code == 403
    assert api.as_admin().get("/v1/jobs?tenant=a%20b").status_code == 422


def test_the_pages_of_a_tenant_hold_only_its_jobs(api: Api, other: Api) -> None:
    own = [api.created() for _ in range(3) if other.created()][::-1]
    first = api.get("/v1/jobs?limit=2").json or {}

    rest = api.get(f"/v1/jobs?limit=2&cursor={first['next_cursor']}").json or {}

    assert [job["id"] for job in [*first["jobs"], *rest["jobs"]]] == own
    assert first["next_cursor"] == own[1]


def test_the_job_of_a_key_is_found_by_its_tenant_only(api: Api, other: Api) -> None:
    job_id = (api.create(UNIFIED, key="order-1").json or {})["id"]

    assert listed(api, "?idempotency_key=order-1") == [job_id]
    assert listed(other, "?idempotency_key=order-1") == []
    assert listed(api.as_admin(), f"?idempotency_key=order-1&tenant={TENANT}") == [job_id]


def test_figures_are_those_of_the_callers_tenant(api: Api, other: Api) -> None:
    api.created()
    job_states.cancelled(api.harness)

    document = other.get("/v1/stats").json or {}
    own = api.get("/v1/stats").json or {}

    assert document["jobs"] == {"open": 0, "succeeded": 0, "failed": 0, "cancelled": 0}
    assert (own["tenant"], own["jobs"]["open"], own["jobs"]["cancelled"]) == (TENANT, 1, 1)
    assert api.as_admin().get(f"/v1/stats?tenant={TENANT}").json == own
    assert other.get(f"/v1/stats?tenant={TENANT}").status_code == 403


def test_metrics_name_no_tenant(api: Api, other: Api) -> None:
    other.created()

    assert "other" not in api.get("/metrics").text


def test_metrics_by_tenant_can_be_switched_on(open_api: Open) -> None:
    api = open_api(ORCHESTRATOR_METRICS_TENANTS="1")
    api.created()

    assert f'orchestrator_tenant_open_jobs{{tenant="{TENANT}"}} 1.0' in (
        Api(api.harness, create_app(api.harness.runtime)).get("/metrics").text
    )


def test_an_administrator_enqueues_for_a_tenant(api: Api) -> None:
    admin = api.as_admin()

    mine = admin.create(UNIFIED).json or {}
    theirs = admin.post("/v1/jobs?tenant=shop", json=UNIFIED).json or {}

    assert (mine["tenant"], theirs["tenant"]) == ("default", "shop")


# The audit trail and the log ---------------------------------------------------------------


def test_actions_on_jobs_are_in_the_audit_trail_with_the_key(api: Api) -> None:
    job_id = api.created()
    key = api.with_key(key_of(api, TENANT))
    key.post(f"/v1/jobs/{job_id}/cancel")
    retried = key.post(f"/v1/jobs/{job_id}/retry").json or {}

    retry, cancel, _ = api.harness.ledger.audit.entries(10)

    assert (cancel.action, cancel.target) == ("cancel", job_id)
    assert (retry.action, retry.detail["new_job"]) == ("retry", retried["id"])
    assert retry.actor == cancel.actor
    assert retry.actor.startswith(f"{TENANT}/key_")


def test_refused_calls_are_logged_without_the_key_and_not_without_end(api: Api) -> None:
    web = create_app(api.harness.runtime)
    stranger = Api(api.harness, web).with_key("orch_" + "0" * 48)
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            assert stranger.get("/v1/jobs").status_code == 401

    refused = [line for line in lines if line["event"] == "request_refused"]
    assert 1 <= len(refused) < 50
    assert (refused[0]["reason"], refused[0]["path"]) == ("unknown key", "/v1/jobs")
    assert "0" * 48 not in str(lines)


# Keys and scopes ------------------------------------------------------------------------------


def test_a_key_allows_what_its_scopes_say(api: Api) -> None:
    job_id = api.created()
    reader = api.with_key(key_of(api, TENANT, Scope.JOBS_READ))
    writer = api.with_key(key_of(api, TENANT, Scope.JOBS_WRITE))
    admin = api.with_key(key_of(api, "other", Scope.ADMIN))

    assert reader.get(f"/v1/jobs/{job_id}").status_code == 200
    refused = reader.post(f"/v1/jobs/{job_id}/cancel")
    assert (refused.status_code, "jobs:write" in refused.text) == (403, True)
    assert writer.get(f"/v1/jobs/{job_id}").status_code == 403
    assert writer.create(UNIFIED).status_code == 202
    assert admin.get(f"/v1/jobs/{job_id}").status_code == 200


def refusal(api: Api, key: str) -> str:
    response = api.with_key(key).get("/v1/jobs")
    assert (response.status_code, response.mimetype) == (401, "application/problem+json")
    return str((response.json or {})["detail"])


#: What the refusal of a key advises.
NEW_KEY = "ask the operator for a new one (orchestrator keys create)"


def test_a_key_that_is_not_accepted_says_why(api: Api) -> None:
    runtime = api.harness.runtime
    good, record = create_key(runtime, actor="tests", tenant="shop", scopes=["jobs:read"])
    short = key_of(api, "shop", expires_in_ms=1000)
    assert api.with_key(good).get("/v1/jobs").status_code == 200
    assert api.with_key(short).get("/v1/jobs").status_code == 200

    api.harness.clock.forward(1)
    revoke_key(runtime, record.id, actor="tests")

    assert refusal(api, good) == f"the key {record.id} is revoked; {NEW_KEY}"
    assert refusal(api, short).endswith(f" is expired; {NEW_KEY}")
    assert f"not complete: a key has {KEY_CHARACTERS}" in refusal(api, short[:-1])
    assert refusal(api, "orch_" + "0" * 48) == f"the key is unknown; check its text, or {NEW_KEY}"


def test_after_a_rotation_both_keys_work_until_the_overlap_ends(api: Api) -> None:
    runtime = api.harness.runtime
    old, record = create_key(runtime, actor="tests", tenant="shop", scopes=["jobs:read"])
    new, _ = rotate_key(runtime, record.id, actor="tests", overlap_ms=1000)

    assert [api.with_key(key).get("/v1/jobs").status_code for key in (old, new)] == [200, 200]
    api.harness.clock.forward(1)
    assert [api.with_key(key).get("/v1/jobs").status_code for key in (old, new)] == [401, 200]


def test_no_key_is_stored(api: Api) -> None:
    key = key_of(api, "shop")
    redis: Any = api.harness.redis

    stored = [redis.dump(name) for name in redis.scan_iter()]

    assert stored
    assert all(key.removeprefix("orch_").encode() not in dump for dump in stored)


# Limits ---------------------------------------------------------------------------------------


def limit(api: Api, **limits: str) -> None:
    set_tenant(api.harness.runtime, TENANT, limits, actor="tests")


def test_over_the_limit_of_open_jobs_a_call_is_429_until_one_ends(api: Api, other: Api) -> None:
    limit(api, max_open="2")
    first, _ = api.created(), api.create(UNIFIED, key="order-1")

    response = api.create(UNIFIED)

    assert (response.status_code, response.mimetype) == (429, "application/problem+json")
    assert (response.json or {})["limit"] == "max_open"
    assert (response.json or {})["type"] == "urn:orchestrator:problem:tenant-limit"
    assert response.headers["Retry-After"] == "5"
    assert api.create(UNIFIED, key="order-1").status_code == 200, "a replay is no new job"
    assert other.create(UNIFIED).status_code == 202, "the limit is of one tenant"
    api.post(f"/v1/jobs/{first}/cancel")
    assert api.create(UNIFIED).status_code == 202
    assert api.create(UNIFIED).status_code == 429


def test_over_the_rate_a_call_is_429_with_the_wait(api: Api) -> None:
    limit(api, requests_per_second="0.5")
    api.created()

    response = api.create(UNIFIED, key="order-2")

    assert (response.status_code, (response.json or {})["limit"]) == (429, "requests_per_second")
    assert response.headers["Retry-After"] == "2"
    api.harness.clock.forward(2)
    assert api.create(UNIFIED, key="order-2").status_code == 202
    limit(api, requests_per_second="none")
    assert api.create(UNIFIED).status_code == 202


def test_over_a_daily_budget_a_call_is_429_until_the_next_day(open_api: Open) -> None:
    api = open_api(HIAPI_PRICES=PRICES)
    limit(api, **{"budget.hiapi": "2"})
    job_id = api.created()

    response = api.create(UNIFIED)

    assert (response.status_code, (response.json or {})["limit"]) == (429, "daily_budget")
    assert "2 credits a day at hiapi" in response.text
    assert response.headers["Retry-After"] == "83200", "the time until midnight, UTC"
    api.post(f"/v1/jobs/{job_id}/cancel")
    assert api.create(UNIFIED).status_code == 202
    api.harness.clock.forward(83_200)
    assert api.create(UNIFIED).status_code == 202


def test_a_model_without_a_price_is_refused_under_a_budget(open_api: Open) -> None:
    api = open_api(HIAPI_PRICES=PRICES)
    limit(api, **{"budget.hiapi": "2"})
    native = {"provider": "hiapi", "model": "another", "request": {"input": {}}}

    response = api.create(native)

    assert response.status_code == 422, response.text
    assert "a model with a price in credits" in response.text
