"""Keys that ended are listed for a while, and then forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger import Ledger
from orchestrator.operations.keys import LISTED_DAYS, create_key, list_keys, revoke_key
from orchestrator.operations.tenants import set_tenant
from tests.support.fakes import Harness

DAY_SECONDS = 86_400


def create(harness: Harness, expires_in_ms: int | None = None) -> str:
    _, record = create_key(
        harness.runtime,
        actor="tests",
        tenant="shop",
        scopes=["jobs:read"],
        expires_in_ms=expires_in_ms,
    )
    return record.id


def listed(harness: Harness) -> set[str]:
    """Return the ids of the keys after one more was made, without that one."""
    new = create(harness)
    return {key.id for key in list_keys(harness.runtime)} - {new}


def test_an_ended_key_is_forgotten_after_its_time_and_a_living_one_never(harness: Harness) -> None:
    living, revoked = create(harness), create(harness)
    expired = create(harness, expires_in_ms=1)
    revoke_key(harness.runtime, revoked, actor="tests")

    harness.clock.forward(LISTED_DAYS * DAY_SECONDS)
    assert {living, revoked, expired} <= listed(harness)

    harness.clock.forward(0.002)
    assert listed(harness) & {living, revoked, expired} == {living}


def test_wrong_values_are_refused_before_redis_is_asked(harness: Harness) -> None:
    away = Ledger(lambda: pytest.fail("Redis was asked"), shards=1)
    runtime = replace(harness.runtime, ledger=away)

    with pytest.raises(InvalidRequest, match="scopes must be"):
        create_key(runtime, actor="tests", tenant="shop", scopes=["jobs:all"])
    with pytest.raises(InvalidRequest, match="max_open must be"):
        set_tenant(runtime, "shop", {"max_open": "many"}, actor="tests")
