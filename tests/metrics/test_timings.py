"""Counts and timings of a process: they are added up, and an outage loses none."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

import pytest
from redis import Redis

from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.metrics import Series, Sums, Timings
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics import timings as timings_module
from orchestrator.metrics.sums import SUM
from tests.support.fakes import unavailable_ledger

CALL = metrics.PROVIDER_CALL_SECONDS
LABELS = ("hiapi", "submit")


def test_sums_of_several_processes_add_up(ledger: Ledger) -> None:
    for _ in range(2):
        process = Timings(ledger.timings.add)
        process.observe(CALL, *LABELS, seconds=0.3)
        process.observe(CALL, *LABELS, seconds=1.0)
        process.observe(CALL, *LABELS, seconds=61.0)
        process.add(metrics.CALLBACKS, "hiapi", "200", amount=3)
        process.flush()
        process.flush()

    assert Sums.read(ledger.timings.read()) == {
        Series.of(CALL, *LABELS, part="0.5"): 2,
        Series.of(CALL, *LABELS, part="1.0"): 2,
        Series.of(CALL, *LABELS, part="+Inf"): 2,
        Series.of(CALL, *LABELS, part=SUM): pytest.approx(124.6),
        Series.of(metrics.CALLBACKS, "hiapi", "200"): 6,
    }


def test_any_number_of_events_is_sent_in_one_round_trip(ledger: Ledger, redis: Redis) -> None:
    process = Timings(ledger.timings.add)
    for number in range(1000):
        process.observe(CALL, *LABELS, seconds=number / 1000)

    before = redis.info("stats")["total_commands_processed"]
    process.flush()
    used = redis.info("stats")["total_commands_processed"] - before

    assert used <= len(CALL.bounds) + 5  # the buckets, the sum, MULTI, EXEC and INFO


def test_a_thread_sends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings_module, "SEND_SECONDS", 0.001)
    sent = threading.Event()
    process = Timings(lambda _: sent.set())

    process.add(metrics.CALLBACKS, "hiapi", "200")

    assert sent.wait(60)


def test_while_redis_is_away_nothing_fails_and_nothing_is_lost(ledger: Ledger) -> None:
    places = [unavailable_ledger()]

    def send(sums: Mapping[str, float]) -> None:
        places[-1].timings.add(sums)

    process = Timings(send)
    for _ in range(3):
        process.add(metrics.CALLBACKS, "hiapi", "200")
        process.flush()

    places.append(ledger)
    process.flush()

    assert list(ledger.timings.read().values()) == [3]


def test_a_measured_error_is_not_counted_and_is_raised() -> None:
    sent: list[object] = []
    process = Timings(sent.append)

    with pytest.raises(LedgerUnavailable), process.measured(CALL, *LABELS):
        raise LedgerUnavailable("away")
    process.flush()

    assert sent == []


def test_a_forked_child_sends_only_its_own_events(ledger: Ledger) -> None:
    process = Timings(ledger.timings.add)
    process.add(metrics.CALLBACKS, "hiapi", "200")

    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            process.add(metrics.CALLBACKS, "hiapi", "409")
            count = len(process._sums)
        finally:
            os._exit(count)
    _, status = os.waitpid(child, 0)
    process.flush()

    assert os.waitstatus_to_exitcode(status) == 1
    assert list(Sums.read(ledger.timings.read())) == [Series.of(metrics.CALLBACKS, "hiapi", "200")]


def test_a_series_has_all_its_labels() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Sums().add(metrics.CALLBACKS, "hiapi")
