"""Who may open the dashboard, for how long, and that other sites can do nothing with a session."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from orchestrator.api.auth import DASHBOARD
from orchestrator.dashboard import PUBLIC_ENDPOINTS
from orchestrator.dashboard.navigation import MENU
from orchestrator.dashboard.sessions import COOKIE, LIFETIME_MS
from orchestrator.ledger.sessions import FAILURES_MS, MAX_FAILURES
from orchestrator.operations import dashboard_links
from orchestrator.operations.keys import create_key, revoke_key
from orchestrator.security.api_keys import Scope
from tests.api.conftest import ADMIN_KEY, KEY
from tests.dashboard.visitor import Visitor
from tests.support.fakes import TENANT, Harness

HOUR_MS = 3_600_000


@pytest.fixture
def visitor(start: Callable[..., Harness]) -> Visitor:
    return Visitor(start())


def test_a_page_without_a_session_leads_to_the_sign_in_and_back(visitor: Visitor) -> None:
    answer = visitor.client.get("/?tenant=shop")
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        "/sign-in?next=/?tenant%3Dshop",
    )

    assert "Sign in to see this page" in visitor.client.get(answer.headers["Location"]).text
    answer = visitor.client.post("/sign-in", data={"key": KEY, "next": "/?tenant=shop"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/?tenant=shop")
    assert visitor.status() == 200


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil", "/a\nb"])
def test_the_sign_in_leads_to_no_other_site(visitor: Visitor, target: str) -> None:
    answer = visitor.client.post("/sign-in", data={"key": KEY, "next": target})

    assert answer.headers["Location"] == "/"


def test_no_page_shows_anything_without_a_session(visitor: Visitor) -> None:
    for rule in visitor.app.url_map.iter_rules():
        if not rule.endpoint.startswith(f"{DASHBOARD}.") or rule.endpoint in PUBLIC_ENDPOINTS:
            continue
        path = re.sub(r"<(?:\w+:)?\w+>", "1", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = visitor.client.open(path, method=method)
            assert answer.status_code == 303, (method, path)
            live = visitor.client.open(path, method=method, headers={"HX-Request": "true"})
            assert live.status_code == 401, (method, path)


@pytest.mark.parametrize(
    ("host", "scheme", "secure"),
    [
        ("127.0.0.1:8080", "http", False),
        ("localhost", "http", False),
        ("[::1]:80", "http", False),
        ("10.1.2.3", "http", False),
        ("10.1.2.3", "https", True),
        ("hooks.example.com", "http", True),
        ("hooks.example.com:8443", "https", True),
    ],
)
def test_the_cookie_needs_tls_outside_private_networks(
    visitor: Visitor, host: str, scheme: str, secure: bool
) -> None:
    answer = visitor.sign_in(KEY, base_url=f"{scheme}://{host}")

    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert ("Secure" in cookie) is secure
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_the_cookie_ends_with_the_session(visitor: Visitor) -> None:
    visitor.sign_in(KEY)

    cookie = visitor.client.get_cookie(COOKIE)
    assert cookie
    assert cookie.expires
    assert cookie.expires.timestamp() == (visitor.harness.clock() + LIFETIME_MS) // 1000


def test_a_session_ends_with_its_key(visitor: Visitor) -> None:
    key, record = create_key(
        visitor.harness.runtime, actor="tests", tenant="shop", scopes=[Scope.JOBS_READ]
    )
    visitor.sign_in(key)
    assert visitor.status() == 200

    revoke_key(visitor.harness.runtime, record.id, actor="tests")
    assert visitor.status() == 303


def test_signing_out_ends_the_session_also_for_a_copy_of_the_cookie(visitor: Visitor) -> None:
    visitor.sign_in(KEY)
    copy = visitor.client.get_cookie(COOKIE)
    assert copy
    assert visitor.client.post("/sign-out", data={"csrf": visitor.csrf()}).status_code == 303

    visitor.client.set_cookie(COOKIE, copy.value)
    assert visitor.status() == 303


def test_redis_holds_no_token(visitor: Visitor) -> None:
    visitor.sign_in(KEY)
    cookie = visitor.client.get_cookie(COOKIE)
    assert cookie
    stored = visitor.harness.ledger.sessions.find(cookie.value)

    assert stored
    assert cookie.value not in str(stored)
    assert KEY not in str(stored)


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_form_without_the_token_of_its_session_changes_nothing(
    visitor: Visitor, token: str
) -> None:
    visitor.sign_in(KEY)

    answer = visitor.client.post("/sign-out", data={"csrf": token})
    assert answer.status_code == 403
    assert "Load it again" in answer.text
    assert visitor.status() == 200


def test_another_site_cannot_sign_somebody_in(visitor: Visitor) -> None:
    answer = visitor.sign_in(KEY, headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403
    assert visitor.status() == 303


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost", 303), ("http://evil.example", 403), ("null", 403)],
)
def test_another_site_signs_nobody_in_without_tls(
    visitor: Visitor, origin: str, status: int
) -> None:
    answer = visitor.sign_in(KEY, headers={"Origin": origin})

    assert answer.status_code == status


def test_whoever_has_a_link_cannot_fill_redis(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.ledger.sessions.MAX_SESSIONS", 2)
    path = f"/link{link(visitor)}"
    other = visitor.other(KEY)
    clients = [visitor.app.test_client() for _ in range(3)]
    for client in clients:
        assert client.get(path).status_code == 303

    assert [client.get("/").status_code for client in clients] == [303, 200, 200]
    assert other.status() == 200  # sessions of others go on


def test_a_live_part_is_made_again_for_a_new_session(visitor: Visitor) -> None:
    live = {"HX-Request": "true"}
    tag = visitor.signed_in().client.get("/", headers=live).headers["ETag"]
    known = {**live, "If-None-Match": tag}
    assert visitor.client.get("/", headers=known).status_code == 304

    # The browser has a new cookie now. The forms of the open page have the old CSRF token.
    visitor.sign_in()
    assert visitor.client.get("/", headers=known).headers["ETag"] != tag


def test_a_notice_shows_control_characters(visitor: Visitor) -> None:
    visitor.signed_in()
    token = visitor.client.get_cookie(COOKIE)
    assert token
    visitor.harness.runtime.ledger.sessions.set_notice(token.value, "It says \u202egnp.exe")

    assert r"It says \u202egnp.exe" in visitor.text("/")


def test_wrong_keys_are_refused_and_bounded(visitor: Visitor) -> None:
    for _ in range(MAX_FAILURES):
        answer = visitor.sign_in("a wrong key")
        assert answer.status_code == 401
        assert "the key is unknown" in answer.text

    answer = visitor.sign_in(KEY)
    assert answer.status_code == 429
    assert "Wait five minutes" in answer.text
    other = {"REMOTE_ADDR": "192.0.2.7"}
    assert visitor.sign_in(KEY, environ_base=other).status_code == 303


def test_failures_are_forgotten_and_a_session_has_an_end(visitor: Visitor) -> None:
    visitor.sign_in("a wrong key")
    visitor.sign_in(KEY)

    redis: Any = visitor.harness.redis
    ends = sorted(redis.pttl(key) for key in redis.keys("*:sign_in:*"))
    assert ends[0] <= FAILURES_MS < ends[1] <= LIFETIME_MS


def test_a_key_without_the_right_to_read_is_refused(visitor: Visitor) -> None:
    key, _ = create_key(
        visitor.harness.runtime, actor="tests", tenant="shop", scopes=[Scope.JOBS_WRITE]
    )

    assert "jobs:read" in visitor.sign_in(key).text


def link(visitor: Visitor, lifetime_ms: int = HOUR_MS) -> str:
    url, _ = dashboard_links.make(
        visitor.harness.runtime, TENANT, lifetime_ms=lifetime_ms, actor="tests"
    )
    return url.partition("/link")[2]


def test_a_link_opens_the_dashboard_of_its_tenant_for_reading(visitor: Visitor) -> None:
    answer = visitor.client.get(f"/link{link(visitor)}")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    page = visitor.client.get("/").text
    assert f"link:{TENANT}" in page
    assert "all tenants" not in page
    assert "all tenants" in admin_page(visitor)


def routes(app: Flask, method: str) -> Iterator[tuple[str, str]]:
    """The endpoint and a path of each page."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(f"{DASHBOARD}.") and method in (rule.methods or set()):
            yield rule.endpoint.partition(".")[2], re.sub(r"<(?:\w+:)?\w+>", "1", rule.rule)


def test_a_link_changes_nothing(visitor: Visitor) -> None:
    visitor.client.get(f"/link{link(visitor)}")
    form = {"csrf": visitor.csrf()}

    for endpoint, path in routes(visitor.app, "POST"):
        if endpoint not in ("enter", "sign_out"):
            assert visitor.client.post(path, data=form).status_code == 403, path


def test_the_pages_of_administrators_are_for_them_only(visitor: Visitor) -> None:
    admins = {item.endpoint for _, items in MENU for item in items if item.admin}
    visitor.sign_in(KEY)

    refused = {
        endpoint for endpoint, path in routes(visitor.app, "GET") if visitor.status(path) == 403
    }

    built = {endpoint for endpoint, _ in routes(visitor.app, "GET")}
    assert admins & built <= refused


def admin_page(visitor: Visitor) -> str:
    other = Visitor(visitor.harness)
    other.sign_in(ADMIN_KEY)
    return other.client.get("/").text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda query: query.replace(TENANT, "other"),
        lambda query: query[:-1],
        lambda query: query + "x",
        lambda query: "?token=",
        lambda query: re.sub(r"~\d+~", "~99999999999999~", query),
    ],
)
def test_a_changed_link_opens_nothing(visitor: Visitor, spoil: Callable[[str], str]) -> None:
    answer = visitor.client.get(f"/link{spoil(link(visitor))}")

    assert answer.status_code == 401
    assert "not valid" in answer.text


def test_an_expired_link_says_so(visitor: Visitor) -> None:
    query = link(visitor, lifetime_ms=1000)
    visitor.harness.clock.forward(1)

    assert "The link has expired" in visitor.client.get(f"/link{query}").text


def test_every_page_has_a_strict_policy_with_a_new_nonce(visitor: Visitor) -> None:
    policies = [visitor.client.get("/sign-in").headers["Content-Security-Policy"] for _ in range(2)]

    assert policies[0] != policies[1]
    assert all("default-src 'none'" in policy for policy in policies)
    assert not any("unsafe" in policy for policy in policies)


def test_a_live_part_is_sent_only_when_it_has_changed(visitor: Visitor) -> None:
    visitor.sign_in(KEY)
    live = {"HX-Request": "true"}
    first = visitor.client.get("/", headers=live)
    assert (first.status_code, "<html" in first.text) == (200, False)

    def again(tag: str) -> Any:
        return visitor.client.get("/", headers={**live, "If-None-Match": tag})

    same = again(first.headers["ETag"])
    assert same.status_code == 304
    visitor.harness.clock.forward(60)  # the state is older, and the content is the same
    assert again(same.headers["ETag"]).status_code in (200, 304)
    visitor.harness.enqueue()
    assert again(same.headers["ETag"]).status_code == 200


BROWSER = {"Accept": "text/html,application/xhtml+xml,image/webp,*/*;q=0.8"}


def test_a_browser_at_a_wrong_address_gets_a_page_and_a_program_a_problem(visitor: Visitor) -> None:
    page = visitor.client.get("/nothing", headers=BROWSER)
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "There is no page at this address" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    link = visitor.client.get("/images/job_1/0/1/wrong", headers=BROWSER)
    assert (link.status_code, link.mimetype) == (404, "text/html")
    assert "The link is not valid" in link.text
    assert "overview" not in link.text

    for path, accept in [("/nothing", "*/*"), ("/nothing", "application/json")]:
        answer = visitor.client.get(path, headers={"Accept": accept})
        assert answer.mimetype == "application/problem+json"
    for path in ("/v1/nothing", "/v1/jobs/job_1", "/callbacks/nothing"):
        answer = visitor.client.get(path, headers={"Authorization": f"Bearer {KEY}", **BROWSER})
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json"), path
