"""Slots and failures of hosts while Redis is away."""

from __future__ import annotations

import pytest
import structlog

from orchestrator.host_limiter import (
    HOST_CACHE_MS,
    SLOTS_PER_HOST,
    HostLimiter,
)
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.settings.settings import DEFAULT_NOTIFY_THREADS
from tests.support.fakes import NOON
from tests.test_host_limiter import HOST, TENANT, fail, low


def test_no_turn_is_given_while_nothing_is_known(away: Ledger) -> None:
    limiter = HostLimiter(DEFAULT_NOTIFY_THREADS, max_wait=0)

    for _ in range(SLOTS_PER_HOST + 1):
        with pytest.raises(LedgerUnavailable):
            limiter.acquire(away.circuit_breaker, HOST, TENANT, NOON, low)

    assert not limiter.shares._calls


@pytest.mark.parametrize("works", [True, False])
def test_what_cannot_be_noted_is_logged_and_the_slot_is_free(
    ledger: Ledger, away: Ledger, works: bool
) -> None:
    limiter = HostLimiter(DEFAULT_NOTIFY_THREADS, max_wait=0)
    last = fail(limiter, ledger.circuit_breaker, begin=NOON, times=2)
    limiter.acquire(ledger.circuit_breaker, HOST, TENANT, last, low)

    with structlog.testing.capture_logs() as logs:
        limiter.release(away.circuit_breaker, HOST, TENANT, last, works=works)

    assert [(line["event"], line["host"]) for line in logs] == [("host_not_recorded", HOST)]
    assert not limiter.shares._calls
    assert ledger.circuit_breaker.failing()[HOST].failures == 2


def test_an_answer_that_could_not_be_noted_is_noted_with_the_next(
    ledger: Ledger, away: Ledger
) -> None:
    limiter = HostLimiter(DEFAULT_NOTIFY_THREADS, max_wait=0)
    last = fail(limiter, ledger.circuit_breaker, begin=NOON, times=2)
    limiter.acquire(ledger.circuit_breaker, HOST, TENANT, last, low)
    limiter.release(away.circuit_breaker, HOST, TENANT, last, works=True)

    limiter.acquire(ledger.circuit_breaker, HOST, TENANT, last + HOST_CACHE_MS, low)
    limiter.release(ledger.circuit_breaker, HOST, TENANT, last + HOST_CACHE_MS, works=True)

    assert ledger.circuit_breaker.failing() == {}
