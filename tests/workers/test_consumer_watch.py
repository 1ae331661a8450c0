"""A process that has stopped reading messages is named and started anew."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from kombu.exceptions import OperationalError

from workers.consumer_watch import (
    CHECK_SECONDS,
    HUNG_SECONDS,
    RECONNECT_SECONDS,
    SILENT_SECONDS,
    ConsumerWatch,
)


@dataclass
class Process:
    """A process and its queues, as the watch sees them."""

    now: float = 0.0
    answers: bool = True
    messages: int = 0
    connecting: bool = False
    stopping: bool = False
    #: Whether its message loop runs, and whether it reads what arrives.
    loops: bool = True
    reads: bool = True
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = self.new_watch(self)

    def new_watch(self, queues: Process | None, hung_seconds: float | None = None) -> ConsumerWatch:
        return ConsumerWatch(
            queues,
            hung_seconds=hung_seconds,
            connecting=lambda: self.connecting,
            stopping=lambda: self.stopping,
            restart=self.reasons.append,
            steady=lambda: self.now,
        )

    def ping(self) -> None:
        self.messages = self.waiting() + 1

    def waiting(self) -> int:
        if not self.answers:
            raise OperationalError("away")
        return self.messages

    def run(self, seconds: float) -> float | None:
        """Run for a time. Return when it was started anew, in seconds from now."""
        begun = self.now
        while self.now < begun + seconds and not self.reasons:
            self.now += CHECK_SECONDS
            if self.loops:
                self.watch.tick()
                if self.reads and self.messages:
                    self.messages = 0
                    self.watch.heard()
            self.watch.check()
        return self.now - begun if self.reasons else None


@pytest.fixture
def process() -> Process:
    return Process()


def test_a_message_loop_that_hangs_is_noticed_within_a_minute(process: Process) -> None:
    assert process.run(100) is None
    process.loops = False

    assert process.run(60) == HUNG_SECONDS + CHECK_SECONDS
    assert "stood still for 25 s" in process.reasons[0]


def test_messages_that_are_not_read_are_noticed_within_a_minute(process: Process) -> None:
    process.reads = False

    took = process.run(60)

    assert took == SILENT_SECONDS + 2 * CHECK_SECONDS, "one more check, because it may be slow"
    assert "has read no message" in process.reasons[0]


def test_a_worker_without_messages_reads_its_own(process: Process) -> None:
    assert process.run(1000) is None


def test_a_broker_that_is_away_is_waited_for(process: Process) -> None:
    process.answers = process.reads = process.loops = False
    process.connecting = True
    assert process.run(1000) is None

    process.answers = True
    assert process.run(60) == RECONNECT_SECONDS + CHECK_SECONDS


def test_a_process_that_ends_or_was_suspended_is_left_alone(process: Process) -> None:
    process.now += 3600
    process.watch.check()
    assert not process.reasons

    process.stopping, process.loops = True, False
    assert process.run(1000) is None


def test_a_process_that_is_told_to_end_during_a_check_is_not_started_anew() -> None:
    ends = iter([False, True])
    restarted: list[str] = []
    times = iter([0.0, HUNG_SECONDS / 2, HUNG_SECONDS + 1])
    watch = ConsumerWatch(
        None,
        connecting=lambda: False,
        stopping=lambda: next(ends),
        restart=restarted.append,
        hung_seconds=1.0,
        steady=lambda: next(times),
    )

    watch.check()

    assert restarted == []
    assert next(ends, None) is None, "it was asked again"


def test_a_process_that_may_get_no_message_is_watched_for_hangs_only(process: Process) -> None:
    process.watch, process.reads = process.new_watch(None), False
    assert process.run(1000) is None

    process.loops = False
    assert process.run(60) == HUNG_SECONDS + CHECK_SECONDS
    process.watch = process.new_watch(None, hung_seconds=45)
    process.reasons.clear()
    assert process.run(60) == 45 + CHECK_SECONDS
