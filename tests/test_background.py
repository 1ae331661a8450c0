"""Threads that the process can do without for a while: each is asked for again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any

import pytest
from redis import Redis

from orchestrator import log
from orchestrator.api.metrics import SourceReader
from orchestrator.jobs.model import Step
from orchestrator.ledger.subscription import Subscription
from orchestrator.messages import Nudger
from orchestrator.metrics import Sums, Timings, timings
from orchestrator.metrics import definitions as metrics
from orchestrator.retry_queue import RetryQueue
from webhooks.threads import Threads
from workers.sweeper import Sweeper

#: The longest wait for what a thread does. Seconds.
LIMIT = 60


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A function after which the system allows threads again. Before, it allows none."""
    with monkeypatch.context() as patch:

        def fail(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", fail)
        yield patch.undo


def test_a_sweep_is_asked_for_again(allow: Callable[[], None]) -> None:
    swept = threading.Event()

    def sweep() -> int:
        swept.set()
        return 0

    sweeper = Sweeper(sweep)
    sweeper.sweep()

    allow()
    sweeper.sweep()

    assert swept.wait(LIMIT)
    sweeper.stop(LIMIT)


def test_an_answer_of_a_provider_is_recorded_later(allow: Callable[[], None]) -> None:
    queue, recorded = RetryQueue(), threading.Event()
    queue.add("job_1.1", recorded.set, until_not=OSError)
    assert queue.drain(0) == ["job_1.1"]

    allow()

    assert queue.drain(LIMIT) == []
    assert recorded.is_set()


def test_a_nudge_is_dropped_and_the_next_one_is_sent(allow: Callable[[], None]) -> None:
    sent: list[Any] = []
    nudger = Nudger(lambda *message: sent.append(message))
    nudger.nudge(Step.POLL, ["job-1"], "hiapi")

    allow()
    nudger.nudge(Step.POLL, ["job-2"], "hiapi")

    nudger.close()
    assert sent == [(Step.POLL, {"hiapi": ["job-2"]})]


def test_timings_are_sent_later(allow: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "SEND_SECONDS", 0.001)
    sent = Future[float]()

    def send(sums: Any) -> None:
        sent.set_result(sum(sums.values()))

    counted = Timings(send)
    counted.add(metrics.CALLBACKS, "hiapi", "200")

    allow()
    counted.add(metrics.CALLBACKS, "hiapi", "200")

    assert sent.result(LIMIT) == 2


def test_a_channel_is_listened_to_later(allow: Callable[[], None], redis: Redis) -> None:
    begun = threading.Event()
    subscription = Subscription(lambda: nullcontext(redis), lambda _: begun.set())
    subscription.add("one")

    allow()
    subscription.add("other")

    assert begun.wait(LIMIT)
    subscription.close()


def test_a_metric_is_missing_and_read_at_the_next_scrape(allow: Callable[[], None]) -> None:
    reader = SourceReader(metrics.Source.LEDGER, Sums)
    assert reader.values(until=0) is None

    allow()

    assert reader.start().result(LIMIT) == {}


def test_a_request_is_refused_and_the_next_one_has_a_thread(allow: Callable[[], None]) -> None:
    async def ask() -> tuple[BaseException, str]:
        threads = Threads(asyncio.get_running_loop(), 1)
        refused = await asyncio.gather(threads.run(str, 1), return_exceptions=True)
        allow()
        return refused[0], await asyncio.wait_for(threads.run(str, 2), LIMIT)  # type: ignore[return-value]

    error, answer = asyncio.run(ask())

    assert isinstance(error, RuntimeError)
    assert answer == "2"


def test_a_count_of_unlogged_events_is_logged_later(allow: Callable[[], None]) -> None:
    limited = log.RateLimitedLog("refused", max_lines=0)
    limited.warning("404")

    allow()
    limited.warning("404")

    timer = limited._timer
    assert timer is not None
    timer.cancel()
    limited.flush()
