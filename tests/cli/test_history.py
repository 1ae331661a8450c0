"""The recorder's process."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from orchestrator.cli.history import StopSignal


@pytest.fixture
def _alarms() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_alarms")
def test_a_signal_at_any_moment_of_a_wait_ends_it() -> None:
    stopping = StopSignal()
    signal.signal(signal.SIGALRM, lambda *_: stopping.set())
    for number in range(300):
        stopping = StopSignal()
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + number * 0.000001)
        while not stopping.wait(0.00001):
            pass
