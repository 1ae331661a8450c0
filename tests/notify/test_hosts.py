"""Turns at hosts: few for a slow one, hardly any for a dead one, whichever process asks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog

from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.ledger.hosts import ENOUGH, LONG, PROBE_EVERY, Host, Hosts
from orchestrator.notify.hosts import BUSY, FRESH, PAUSED, SLOTS, Turns
from tests.fakes import NOON

HOST, OTHER = "hooks.example.com", "hooks.example.net:8443"


def low() -> float:
    return 0.0


def high() -> float:
    return 1.0


def fail(turns: Turns, hosts: Hosts, *, begin: int, times: int = ENOUGH, every: int = LONG) -> int:
    """Failures, one after the other; when the last one was (ms)."""
    now = begin
    for number in range(times):
        now = begin + number * every
        assert turns.take(hosts, HOST, now, low) is None
        turns.give_back(hosts, HOST, now, works=False)
    return now


def paused(hosts: Hosts, turns: Turns | None = None) -> int:
    """A host that was paused, by another process unless told otherwise; when (ms)."""
    return fail(turns or Turns(), hosts, begin=NOON)


# Slots ---------------------------------------------------------------------------------------


def test_a_host_has_four_slots_in_a_process(ledger: Ledger) -> None:
    turns = Turns()

    waits = [turns.take(ledger.hosts, HOST, NOON, low) for _ in range(6)]

    assert SLOTS == 4
    assert waits == [None] * 4 + [BUSY[0]] * 2
    assert turns.take(ledger.hosts, HOST, NOON, high) == BUSY[1]


def test_another_host_has_its_own(ledger: Ledger) -> None:
    turns = Turns()
    for _ in range(SLOTS):
        turns.take(ledger.hosts, HOST, NOON, low)

    assert turns.take(ledger.hosts, HOST, NOON, low) is not None
    assert turns.take(ledger.hosts, OTHER, NOON, low) is None
    assert Turns().take(ledger.hosts, HOST, NOON, low) is None


@pytest.mark.parametrize("works", [True, False, None])
def test_a_slot_that_is_given_back_can_be_taken(ledger: Ledger, works: bool | None) -> None:
    turns = Turns()
    for _ in range(SLOTS):
        turns.take(ledger.hosts, HOST, NOON, low)

    for _ in range(3):
        turns.give_back(ledger.hosts, HOST, NOON, works=works)
        assert turns.take(ledger.hosts, HOST, NOON, low) is None
        assert turns.take(ledger.hosts, HOST, NOON, low) == BUSY[0]


def test_threads_never_hold_more_than_there_are(redis_url: str, ledger: Ledger) -> None:
    shared, turns = Ledger.from_url(redis_url), Turns()
    start, lock = threading.Barrier(16), threading.Lock()
    held, most = 0, 0

    def work(_: int) -> int:
        nonlocal held, most
        start.wait(10)
        got = 0
        for _ in range(50):
            if turns.take(shared.hosts, HOST, NOON, low) is None:
                with lock:
                    held, got = held + 1, got + 1
                    most = max(most, held)
                with lock:
                    held -= 1
                turns.give_back(shared.hosts, HOST, NOON, works=True)
        return got

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) > 0
    assert 0 < most <= SLOTS
    assert [turns.take(shared.hosts, HOST, NOON, low) for _ in range(5)] == [None] * 4 + [BUSY[0]]


def test_hosts_that_nobody_asks_any_more_take_no_memory(ledger: Ledger) -> None:
    turns = Turns()
    for number in range(100):
        assert turns.take(ledger.hosts, f"{number}.example.com", NOON, low) is None
        turns.give_back(ledger.hosts, f"{number}.example.com", NOON, works=True)

    assert not turns._busy
    assert not turns._failing


# Failures ------------------------------------------------------------------------------------


def test_a_host_that_fails_often_enough_for_long_enough_is_paused(ledger: Ledger) -> None:
    turns = Turns()

    with structlog.testing.capture_logs() as logs:
        last = fail(turns, ledger.hosts, begin=NOON)

    known = ledger.hosts.failing()[HOST]
    assert (known.failures, known.since, known.next_probe) == (ENOUGH, NOON, last + PROBE_EVERY)
    assert [(line["event"], line["host"]) for line in logs] == [("host_paused", HOST)]
    assert turns.take(ledger.hosts, HOST, last, low) == PAUSED[0] * 60
    assert turns.take(ledger.hosts, HOST, last, high) == PAUSED[1] * 60


def test_few_failures_or_a_short_time_do_not_pause_it(ledger: Ledger) -> None:
    last = fail(Turns(), ledger.hosts, begin=NOON, times=ENOUGH - 1)
    assert Turns().take(ledger.hosts, HOST, last, low) is None

    ledger.hosts.forget(HOST)
    last = fail(Turns(), ledger.hosts, begin=NOON, times=100, every=LONG // 100 - 1)
    assert Turns().take(ledger.hosts, HOST, last, low) is None


def test_an_answer_between_failures_begins_the_count_anew(ledger: Ledger) -> None:
    turns = Turns()
    last = fail(turns, ledger.hosts, begin=NOON, times=ENOUGH - 1)

    turns.take(ledger.hosts, HOST, last, low)
    turns.give_back(ledger.hosts, HOST, last, works=True)

    assert ledger.hosts.failing() == {}
    fail(turns, ledger.hosts, begin=last, times=ENOUGH - 1)
    assert ledger.hosts.failing()[HOST].next_probe is None


def test_what_one_process_knows_the_others_learn_within_a_second(ledger: Ledger) -> None:
    here, there = Turns(), Turns()
    paused_at = NOON + (ENOUGH - 1) * LONG
    assert there.take(ledger.hosts, OTHER, paused_at, low) is None  # has just looked
    assert paused(ledger.hosts, here) == paused_at

    assert here.take(ledger.hosts, HOST, paused_at, low) is not None
    assert there.take(ledger.hosts, HOST, paused_at + FRESH - 1, low) is None
    assert there.take(ledger.hosts, HOST, paused_at + FRESH, low) is not None


def test_a_host_that_works_costs_one_look_in_a_second(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    failing = Hosts.failing

    def counted(hosts: Hosts) -> dict[str, Host]:
        looks.append(1)
        return failing(hosts)

    monkeypatch.setattr(Hosts, "failing", counted)
    turns = Turns()

    for millisecond in range(0, 2 * FRESH, 10):
        turns.take(ledger.hosts, HOST, NOON + millisecond, low)
        turns.give_back(ledger.hosts, HOST, NOON + millisecond, works=True)

    assert len(looks) == 2


def test_a_clock_that_goes_back_does_not_keep_old_news(ledger: Ledger) -> None:
    turns = Turns()
    turns.take(ledger.hosts, OTHER, NOON + 3_600_000, low)
    last = paused(ledger.hosts)

    assert turns.take(ledger.hosts, HOST, last, low) is not None


# Probes --------------------------------------------------------------------------------------


def test_of_two_processes_one_probes_in_each_interval(ledger: Ledger) -> None:
    one, two = Turns(), Turns()
    due = paused(ledger.hosts) + PROBE_EVERY

    assert one.take(ledger.hosts, HOST, due - 1, low) is not None
    taken = [each.take(ledger.hosts, HOST, due, low) for each in (one, two, one, two)]

    assert taken == [None] + [PAUSED[0] * 60] * 3
    assert two.take(ledger.hosts, HOST, due + PROBE_EVERY - 1, low) is not None
    assert two.take(ledger.hosts, HOST, due + PROBE_EVERY, low) is None


def test_a_probe_that_fails_leaves_it_paused(ledger: Ledger) -> None:
    one, two = Turns(), Turns()
    due = paused(ledger.hosts) + PROBE_EVERY
    one.take(ledger.hosts, HOST, due, low)

    with structlog.testing.capture_logs() as logs:
        one.give_back(ledger.hosts, HOST, due + 15_000, works=False)

    assert logs == []
    assert ledger.hosts.failing()[HOST].failures == ENOUGH + 1
    for each in (one, two):
        assert each.take(ledger.hosts, HOST, due + 15_000, low) is not None
    assert two.take(ledger.hosts, HOST, due + PROBE_EVERY, low) is None


def test_a_probe_that_is_answered_resumes_it_for_all(ledger: Ledger) -> None:
    one, two = Turns(), Turns()
    due = paused(ledger.hosts) + PROBE_EVERY
    assert two.take(ledger.hosts, HOST, due, low) is None
    assert one.take(ledger.hosts, HOST, due, low) is not None

    with structlog.testing.capture_logs() as logs:
        two.give_back(ledger.hosts, HOST, due + 100, works=True)

    assert [(line["event"], line["host"]) for line in logs] == [("host_resumed", HOST)]
    assert ledger.hosts.failing() == {}
    assert two.take(ledger.hosts, HOST, due + 100, low) is None
    assert one.take(ledger.hosts, HOST, due + FRESH, low) is None


def test_that_it_was_resumed_is_told_once(ledger: Ledger) -> None:
    turns = Turns()
    due = paused(ledger.hosts) + PROBE_EVERY
    assert turns.take(ledger.hosts, HOST, due, low) is None

    with structlog.testing.capture_logs() as logs:
        turns.give_back(ledger.hosts, HOST, due, works=True)
        turns.take(ledger.hosts, HOST, due, low)
        turns.give_back(ledger.hosts, HOST, due, works=True)

    assert [line["event"] for line in logs] == ["host_resumed"]


def test_before_a_probe_is_due_redis_is_not_asked_for_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns()
    due = paused(ledger.hosts) + PROBE_EVERY
    assert turns.take(ledger.hosts, OTHER, due - 1, low) is None
    monkeypatch.delattr(Hosts, "probe")

    assert turns.take(ledger.hosts, HOST, due - 1, low) is not None


def test_whoever_learns_late_that_it_was_resumed_may_ask(ledger: Ledger) -> None:
    turns = Turns()
    due = paused(ledger.hosts) + PROBE_EVERY
    assert turns.take(ledger.hosts, HOST, due - 1, low) is not None
    ledger.hosts.forget(HOST)

    assert turns.take(ledger.hosts, HOST, due, low) is None


def test_a_host_that_was_not_asked_stays_paused(ledger: Ledger) -> None:
    turns = Turns()
    due = paused(ledger.hosts) + PROBE_EVERY
    turns.take(ledger.hosts, HOST, due, low)

    turns.give_back(ledger.hosts, HOST, due, works=None)

    assert ledger.hosts.failing()[HOST].failures == ENOUGH
    assert turns.take(ledger.hosts, HOST, due, low) is not None


def test_that_all_is_well_is_not_told(ledger: Ledger) -> None:
    turns = Turns()
    fail(turns, ledger.hosts, begin=NOON, times=2)

    with structlog.testing.capture_logs() as logs:
        turns.take(ledger.hosts, HOST, NOON + LONG, low)
        turns.give_back(ledger.hosts, HOST, NOON + LONG, works=True)

    assert logs == []


# While Redis is away -------------------------------------------------------------------------


def test_no_turn_is_given_while_nothing_is_known(away: Ledger) -> None:
    turns = Turns()

    for _ in range(SLOTS + 1):
        with pytest.raises(LedgerUnavailable):
            turns.take(away.hosts, HOST, NOON, low)

    assert not turns._busy


@pytest.mark.parametrize("works", [True, False])
def test_what_cannot_be_noted_is_logged_and_the_slot_is_free(
    ledger: Ledger, away: Ledger, works: bool
) -> None:
    turns = Turns()
    last = fail(turns, ledger.hosts, begin=NOON, times=2)
    turns.take(ledger.hosts, HOST, last, low)

    with structlog.testing.capture_logs() as logs:
        turns.give_back(away.hosts, HOST, last, works=works)

    assert [(line["event"], line["host"]) for line in logs] == [("host_not_noted", HOST)]
    assert not turns._busy
    assert ledger.hosts.failing()[HOST].failures == 2


def test_an_answer_that_could_not_be_noted_is_noted_with_the_next(
    ledger: Ledger, away: Ledger
) -> None:
    turns = Turns()
    last = fail(turns, ledger.hosts, begin=NOON, times=2)
    turns.take(ledger.hosts, HOST, last, low)
    turns.give_back(away.hosts, HOST, last, works=True)

    turns.take(ledger.hosts, HOST, last + FRESH, low)
    turns.give_back(ledger.hosts, HOST, last + FRESH, works=True)

    assert ledger.hosts.failing() == {}
