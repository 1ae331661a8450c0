"""Measures how many submissions one worker process makes when the provider takes its time.

The jobs wait in the ledger, so nothing but the worker and the provider limits the rate. With the
longest latency, the open calls are counted instead.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep

from benchmarks import stub_provider
from benchmarks.product import Product
from benchmarks.report import Report, progress
from benchmarks.stub_provider import Behaviour, Provider

ROUNDS = 3
#: The time from a submission to its answer. Seconds.
LATENCIES_SECONDS = (0.0, 0.3, 1.0)
#: The time for which submissions are counted. Seconds.
WINDOW_SECONDS = 3.0
#: Due jobs before each window, and how many of them are submitted before it ends early. Then the
#: worker never runs out of jobs.
BACKLOG_JOBS, MOST_SUBMISSIONS = 12_000, 10_000
#: The latency at which open calls are counted. The worker must wait longer than that for an answer.
LONG_LATENCY_SECONDS, READ_TIMEOUT_SECONDS = 30.0, "60"
#: The open calls are counted when they have not grown for this time. Seconds.
STEADY_SECONDS = 3.0
MIN_RATE_AT_ONE_SECOND, MIN_OPEN_CALLS = 300, 500


def run(rounds: int = ROUNDS, latencies: tuple[float, ...] = LATENCIES_SECONDS) -> Report:
    """Measure the latencies in turns, and then the open calls."""
    rates: dict[str, list[float]] = {_label(latency): [] for latency in latencies}
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        provider, _ = closing.enter_context(stub_provider.running(folder))
        settings = {"ORCHESTRATOR_READ_TIMEOUT_SECONDS": READ_TIMEOUT_SECONDS}
        settings["ORCHESTRATOR_DRAIN_SECONDS"] = "0"
        product = closing.enter_context(
            Product(folder / "product", provider, processes=("worker", "beat"), settings=settings)
        )
        for number in range(1, rounds + 1):
            for latency in latencies:
                rates[_label(latency)].append(_rate(product, provider, latency))
                progress(f"round {number}: {latency:g} s: {rates[_label(latency)][-1]:.0f} /s")
        open_calls = _open_calls(product, provider)
    report = Report("concurrency", f"one worker process, {rounds} windows of {WINDOW_SECONDS:g} s")
    report.add("submissions", "/s", rates)
    report.add("open calls", "calls", {_label(LONG_LATENCY_SECONDS): [open_calls]})
    last = median(rates[_label(latencies[-1])])
    report.goal(f"submissions/s at a latency of {latencies[-1]:g} s:", last, MIN_RATE_AT_ONE_SECOND)
    report.goal(f"open calls at {LONG_LATENCY_SECONDS:g} s:", open_calls, MIN_OPEN_CALLS)
    return report


def _label(latency: float) -> str:
    return f"provider answers after {latency:g} s"


def _rate(product: Product, provider: Provider, latency: float) -> float:
    """Return the answered submissions per second, after the calls of the last window ended."""
    provider.behave(Behaviour(latency_seconds=latency, callbacks=False))
    most = provider.figures().submissions + MOST_SUBMISSIONS
    _fill(product)
    sleep(1 + 2 * latency)
    before, began = provider.figures().answered, perf_counter()
    while perf_counter() < began + WINDOW_SECONDS and provider.figures().submissions < most:
        sleep(0.05)
    rate = (provider.figures().answered - before) / (perf_counter() - began)
    assert product.ledger.overview.counts().get("queued"), "the worker ran out of jobs"
    return rate


def _open_calls(product: Product, provider: Provider) -> int:
    """Return the calls that are open when their number does not grow any more."""
    provider.behave(Behaviour(latency_seconds=LONG_LATENCY_SECONDS, callbacks=False))
    _fill(product)
    most, began, grew = 0, monotonic(), monotonic()
    while monotonic() < min(grew + STEADY_SECONDS, began + LONG_LATENCY_SECONDS - 5):
        figures = provider.figures()
        if figures.submissions - figures.answered > most:
            most, grew = figures.submissions - figures.answered, monotonic()
        sleep(0.1)
    return most


def _fill(product: Product) -> None:
    """Create due jobs. The sweep finds them."""
    queued = product.ledger.overview.counts().get("queued", 0)
    with product.paused_worker():
        for _ in range(BACKLOG_JOBS - queued):
            product.create("A lighthouse at dusk")
