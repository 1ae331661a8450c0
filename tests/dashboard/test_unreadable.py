"""A job that this version cannot read: lists name it, and its page says what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.ledger import keys
from tests.api.conftest import KEY
from tests.dashboard.visitor import Visitor
from tests.support import job_states
from tests.support.fakes import TENANT, Harness

SHOP_KEY = "key-of-the-shop-of-tests"


@pytest.fixture
def admin(start: Callable[..., Harness]) -> Visitor:
    keys_ = f"{TENANT}:{KEY},shop:{SHOP_KEY}"
    return Visitor(start(ORCHESTRATOR_API_KEYS=keys_)).signed_in()


def unreadable(harness: Harness) -> str:
    job_id = harness.enqueue()
    job_states.make_unreadable(harness, job_id, {"status": "dreaming"})
    return job_id


def test_the_list_shows_the_others_and_names_it(admin: Visitor) -> None:
    good, bad = admin.harness.enqueue(), unreadable(admin.harness)

    page = admin.read("/jobs")

    assert f'<tr id="{good}">' in page
    assert f"<code>{bad}</code>" in page
    assert "1 job of this list cannot be read" in page
    assert "orchestrator verify" in page
    shop = Visitor(admin.harness).signed_in(SHOP_KEY)
    assert bad not in shop.read("/jobs")


@pytest.mark.parametrize("path", ["/unconfirmed", "/at-risk", "/deliveries", "/"])
def test_the_other_pages_do_not_fail(admin: Visitor, path: str) -> None:
    harness = admin.harness
    bad = unreadable(harness)
    harness.redis.zadd(keys.unconfirmed(0), {f"{bad}.1": harness.clock()})
    harness.redis.zadd(keys.dead(0), {bad: harness.clock()})
    harness.redis.zadd(keys.given_up(0), {bad: harness.clock() + 1000})

    page = admin.read(path)

    if path != "/":
        assert f"<code>{bad}</code>" in page


def test_its_page_says_what_to_do_and_other_tenants_do_not_learn_of_it(admin: Visitor) -> None:
    bad = unreadable(admin.harness)

    page = admin.text(f"/jobs/{bad}", 503)

    assert "A job cannot be read" in page
    assert "orchestrator verify" in page
    shop = Visitor(admin.harness).signed_in(SHOP_KEY)
    assert shop.status(f"/jobs/{bad}") == shop.status(f"/jobs/{bad}/images/0") == 404
    for action in ("cancel", "retry", "poll", "notify", "archive"):
        assert admin.send(f"/jobs/{bad}/{action}").status_code == 503
        assert shop.send(f"/jobs/{bad}/{action}").status_code == 404, action
