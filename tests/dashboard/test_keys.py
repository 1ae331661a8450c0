"""Keys and tenants: what is made is shown once, what is wrong is said at its field."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import copy
from html import unescape

import pytest

from orchestrator.operations.keys import list_keys
from orchestrator.operations.tenants import tenant_view
from orchestrator.security.api_keys import DEFAULT_SCOPES, Scope, digest
from tests.api.conftest import KEY
from tests.dashboard.visitor import HOSTILE, Visitor, assert_harmless
from tests.support.fakes import TENANT, Harness

#: A form that makes a key.
NEW = {"tenant": "shop", "name": "production", "scopes": ["jobs:read", "jobs:write"], "days": "90"}
DAY_MS = 86_400_000


@pytest.fixture
def visitor(start: Callable[..., Harness]) -> Visitor:
    made = start(HIAPI_PRICES='{"unit": "USD", "prices": {"*": 0.25}}')
    return Visitor(made).signed_in()


def shown_key(page: str) -> str:
    [key] = set(re.findall(r"orch_[0-9a-f]{48}", page))
    return str(key)


def test_a_new_key_is_shown_once_and_works(
    visitor: Visitor, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = visitor.send("/keys", NEW)

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers
    key = shown_key(answer.text)
    [record] = list_keys(visitor.harness.runtime)
    assert (record.tenant, record.name, record.digest) == ("shop", "production", digest(key))
    assert record.scopes == DEFAULT_SCOPES
    assert record.expires_at == record.created_at + 90 * DAY_MS
    assert key not in visitor.text("/keys")
    assert key not in visitor.text("/audit")
    assert key not in "".join(capfd.readouterr())
    assert visitor.signed_in(key).status() == 200


MISTAKES: list[tuple[dict[str, object], str, str]] = [
    ({"tenant": "a b"}, "key-tenant", "tenant must be 1 to 64 letters, digits, _ . -"),
    ({"name": HOSTILE}, "key-name", "name must be at most 100 printable characters"),
    ({"scopes": []}, "scopes", "scopes must be one of"),
    ({"scopes": ["jobs:raed"]}, "scopes", "did you mean jobs:read?"),
    ({"days": "0"}, "key-days", "days must be a whole number from 1 to 3650"),
    ({"days": "٣"}, "key-days", "days must be a whole number"),
]


def test_a_mistake_is_said_at_its_field_and_the_input_stays(visitor: Visitor) -> None:
    for changes, field, sentence in MISTAKES:
        answer = visitor.send("/keys", {**NEW, "name": "kept as it is", **changes})

        assert answer.status_code == 422
        assert f'aria-describedby="{field}-error"' in answer.text
        assert sentence in answer.text
        assert "kept as it is" in answer.text or "name" in changes
        assert "<script>alert" not in answer.text
        assert "data-live" not in answer.text
    assert list_keys(visitor.harness.runtime) == []


def test_a_key_is_rotated_and_revoked(visitor: Visitor) -> None:
    old = shown_key(visitor.send("/keys", NEW).text)
    [record] = list_keys(visitor.harness.runtime)
    answer = visitor.send(f"/keys/{record.id}/rotate", {"overlap": "1 hour"})

    new = shown_key(answer.text)
    assert new != old
    assert "works for 1 hour more" in answer.text
    first, second = sorted(list_keys(visitor.harness.runtime), key=lambda key: key.expires_at or 0)
    assert first.expires_at == visitor.harness.clock() + DAY_MS // 24
    assert visitor.send(f"/keys/{second.id}/revoke").headers["Location"] == "/keys"
    assert f"{second.id} of shop is revoked" in visitor.text("/keys")
    visitor.send(f"/keys/{second.id}/revoke")
    assert "is revoked already" in visitor.text("/keys")
    visitor.send("/keys/key_nobody/rotate", {"overlap": "no time"})
    assert "there is no key" in visitor.text("/keys")
    assert visitor.send(f"/keys/{first.id}/rotate", {"overlap": "9 years"}).status_code == 422
    actions = [entry.action for entry in visitor.harness.ledger.audit.entries(9)]
    assert actions == ["key_revoke", "key_rotate", "key_create", "key_create"]


def test_keys_of_the_environment_are_named_and_never_shown(visitor: Visitor) -> None:
    page = visitor.text("/keys")

    assert "ORCHESTRATOR_ADMIN_KEYS" in page
    assert "built-in" not in page
    assert "ops" in page
    assert KEY not in page
    assert visitor.harness.runtime.settings.api_keys[TENANT].reveal() not in page


def test_only_administrators_manage_keys_and_tenants(visitor: Visitor) -> None:
    visitor.send("/keys", {**NEW, "name": "a secret plan"})
    [record] = list_keys(visitor.harness.runtime)
    visitor.signed_in(KEY)
    pages = ("/keys", "/keys/tenants/shop", "/keys/tenants?name=shop", "/audit")
    assert [visitor.status(path) for path in pages] == [403] * 4
    forms = ("/keys", f"/keys/{record.id}/revoke", f"/keys/{record.id}/rotate")
    assert [visitor.send(path, NEW).status_code for path in forms] == [403] * 3
    assert visitor.send("/keys/tenants/shop", {"max_open": "1"}).status_code == 403
    assert "Keys and tenants" not in visitor.text("/")
    visitor.signed_in()
    assert visitor.client.post("/keys", data=NEW).status_code == 403  # without the token

    assert list_keys(visitor.harness.runtime) == [record]


def test_the_page_lists_the_keys_of_the_chosen_tenant(visitor: Visitor) -> None:
    visitor.send("/keys", NEW)
    visitor.send("/keys", {**NEW, "tenant": "studio", "name": "night shift", "scopes": ["admin"]})

    assert "night shift" in visitor.text("/keys")
    assert "night shift" not in visitor.text("/keys?tenant=shop")
    assert visitor.harness.runtime.ledger.access.read().keys.values()
    assert {Scope.ADMIN} in [key.scopes for key in list_keys(visitor.harness.runtime)]


def test_limits_and_budgets_of_a_tenant_are_set_and_removed(visitor: Visitor) -> None:
    where = "/keys/tenants/shop"
    form = {"max_open": "500", "requests_per_second": "2.5", "budget.hiapi": "50", "secret": "keep"}
    assert visitor.send(where, form).headers["Location"] == where

    page = visitor.text(where)
    assert "The settings of shop are stored" in page
    for value in ("500", "2.5", "50"):
        assert f'value="{value}"' in page
    limits = tenant_view(visitor.harness.runtime, "shop")["limits"]
    assert (limits["max_open"], limits["requests_per_second"]) == (500, 2.5)
    assert limits["daily_budgets"]["hiapi"]["amount"] == 50
    visitor.send(where, {**form, "max_open": ""})
    [last, _] = visitor.harness.ledger.audit.entries(9)
    assert (last.action, last.detail) == ("tenant_set", {"max_open": "none"})
    assert "no limit" in visitor.text("/keys")


def test_a_wrong_limit_changes_nothing_and_stays_in_its_field(visitor: Visitor) -> None:
    form = {"max_open": "7", "requests_per_second": "many", "budget.hiapi": "", "secret": "keep"}
    answer = visitor.send("/keys/tenants/shop", form)
    assert answer.status_code == 422
    assert 'aria-describedby="requests_per_second-error"' in answer.text
    assert 'value="many"' in answer.text
    answer = visitor.send("/keys/tenants/shop", {"budget.hiapi": f"-1{HOSTILE}"})
    assert 'aria-describedby="budget-hiapi-error"' in answer.text
    assert "<script>alert" not in answer.text
    assert visitor.harness.ledger.audit.entries(9) == []
    assert visitor.status("/keys/tenants/a%20b") == 422


def test_a_new_secret_is_shown_once(visitor: Visitor) -> None:
    answer = visitor.send("/keys/tenants/shop", {"secret": "new"})
    [secret] = set(re.findall(r"whsec_[A-Za-z0-9+/=]{20,}", answer.text))

    assert secret not in visitor.text("/keys/tenants/shop")
    assert secret not in visitor.text("/audit")
    [entry] = visitor.harness.ledger.audit.entries(9)
    assert entry.detail == {"notify_secret": "***"}
    known = visitor.harness.ledger.access.read().tenant("shop").notify_secrets
    assert [each.secret.reveal() for each in known] == [secret]


def test_the_name_of_a_key_is_shown_as_text(visitor: Visitor) -> None:
    visitor.send("/keys", {**NEW, "name": "<b>bold</b>"})

    assert "&lt;b&gt;bold" in visitor.text("/keys")
    for number in range(60):
        actor = HOSTILE if number == 59 else f"somebody {number}"
        visitor.harness.runtime.audit(actor, "cancel", f"job_{number}", reason="no need")
    assert_harmless(visitor.text("/audit"))


def test_the_audit_log_is_filtered_and_paged(visitor: Visitor) -> None:
    for number in range(120):
        visitor.harness.runtime.audit(f"actor {number % 2}", "cancel", f"job_{number}")
    visitor.send("/keys", NEW)

    page = visitor.text("/audit")
    assert page.index("key create") < page.index("job_119") < page.index("job_71")
    assert "job_70" not in page
    older = re.search(r'href="(/audit\?after=[^"]+)">Older', page)
    assert older
    page = visitor.text(older[1])
    assert "job_70" in page
    assert "job_71" not in page
    for query, found in {
        "actor=ACTOR+1&target=b_119": 1,
        "action=key+create": 1,
        "q=1": 50,
    }.items():
        assert visitor.text(f"/audit?{query}").count("<tr id=") == found
    assert visitor.text("/audit?target=shop").count("<tr id=") == 1  # in the details
    assert "No entry matches" in visitor.text("/audit?actor=nobody")
    assert visitor.status("/audit?after=%2B") == 422


def test_a_link_for_a_customer_opens_its_dashboard(visitor: Visitor) -> None:
    page = visitor.send("/keys/tenants/shop/link", {"for": "1 day"}).text

    found = re.search(r"/link\?token=[^<\"]+", page)
    assert found
    guest = copy(visitor)
    guest.client = visitor.app.test_client()
    assert guest.client.get(unescape(found[0])).status_code == 303
    assert "link:shop" in guest.text("/")
    audit = visitor.read("/audit?action=dashboard_link")
    assert re.search(r'expires at</small> <time datetime="', audit)
    assert visitor.send("/keys/tenants/shop/link", {"for": "ever"}).status_code == 422
