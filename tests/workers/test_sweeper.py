"""The thread of the sweeps."""

from __future__ import annotations

import threading

import pytest

from orchestrator.ledger import LedgerUnavailable
from workers.sweeper import Sweeper, SweepTimer


class Sweeps:
    """Records the sweeps. A sweep waits until it may go on."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.kinds: list[str] = []
        self.errors: list[Exception] = []

    def sweep(self) -> int:
        return self._do("sweep")

    def refill(self) -> int:
        return self._do("refill")

    def _do(self, kind: str) -> int:
        self.kinds.append(kind)
        self.begun.release()
        assert self.go_on.acquire(timeout=60)
        if self.errors:
            raise self.errors.pop(0)
        return 0


@pytest.fixture
def sweeps() -> Sweeps:
    return Sweeps()


def test_requests_during_a_sweep_make_one_more_sweep_of_all_jobs(sweeps: Sweeps) -> None:
    sweeper = Sweeper(sweeps.sweep, sweeps.refill, pace=0)
    sweeper.refill()
    assert sweeps.begun.acquire(timeout=60)

    for _ in range(5):
        sweeper.refill()
        sweeper.sweep()  # returns, although a sweep runs

    sweeps.go_on.release(2)
    assert sweeps.begun.acquire(timeout=60)
    sweeper.stop()
    assert sweeps.kinds == ["refill", "sweep"]


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), KeyError("a fault of ours")])
def test_a_sweep_that_fails_does_not_end_the_sweeps(sweeps: Sweeps, error: Exception) -> None:
    sweeper = Sweeper(sweeps.sweep, sweeps.refill, pace=0)
    sweeps.errors.append(error)
    sweeps.go_on.release(2)
    sweeper.sweep()
    assert sweeps.begun.acquire(timeout=60)

    sweeper.sweep()

    assert sweeps.begun.acquire(timeout=60)
    sweeper.stop()


def test_a_stop_waits_for_the_running_sweep(sweeps: Sweeps) -> None:
    sweeper = Sweeper(sweeps.sweep, pace=0)
    sweeper.sweep()
    assert sweeps.begun.acquire(timeout=60)
    ended = threading.Thread(target=sweeper.stop, args=(60,))
    ended.start()

    assert ended.is_alive()
    sweeps.go_on.release()
    ended.join(60)
    assert not ended.is_alive()


def test_a_stopped_sweeper_begins_no_sweep(sweeps: Sweeps) -> None:
    sweeper = Sweeper(sweeps.sweep, sweeps.refill, pace=0)
    sweeper.stop()

    sweeper.sweep()

    assert sweeper._thread is not None
    sweeper._thread.join(60)
    assert (sweeper._thread.is_alive(), sweeps.kinds) == (False, [])


class End(BaseException):
    """Ends a timer, whose thread would outlive the test."""


def test_a_timer_asks_for_one_sweep_after_another() -> None:
    asked: list[str] = []

    def ask() -> None:
        asked.append("a sweep")
        if len(asked) == 3:
            raise End

    with pytest.raises(End):
        SweepTimer(ask, 0.01)._run()


def test_a_timer_has_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    ran = threading.Event()

    def run(_: SweepTimer) -> None:
        names.append(threading.current_thread().name)
        ran.set()

    monkeypatch.setattr(SweepTimer, "_run", run)
    SweepTimer(lambda: None, 0.01).start()

    assert ran.wait(60)
    assert names == ["sweep timer"]
