"""`/metrics`: what Prometheus reads.

All values come from Redis, the history and the broker. So every web process shows the same values,
and a restart loses none. The route needs no key, because it names no tenant, unless
ORCHESTRATOR_METRICS_TENANTS is set.

A scrape waits SCRAPE_SECONDS at most. A server that does not answer in this time costs its own
families only, and `orchestrator_up` says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from functools import partial
from time import monotonic

from flask import Blueprint, Response, request
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from orchestrator import log
from orchestrator.background import TOO_MANY_THREADS, start_thread
from orchestrator.forks import renew_in_children
from orchestrator.metrics import DEFINITIONS, Definition, Kind, Series, Source, Sums
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.sums import SUM
from orchestrator.operations.metric_values import READERS
from orchestrator.runtime import Runtime

#: Lifetime of values that were read. Seconds.
CACHE_SECONDS = 1.0
#: The longest time of a scrape. Prometheus waits 10 s by default. Seconds.
SCRAPE_SECONDS = 4.0

Labels = tuple[str, ...]


class SourceReader:
    """Reads the values of one server, in a thread, at most once at a time.

    Args:
        source: its name, for the log.
        read: reads the values. It may take long, or raise.
    """

    def __init__(self, source: Source, read: Callable[[], Sums]) -> None:
        self._source = source
        self._read = read
        self._was_up = True
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without values, also in the child of a fork."""
        self._lock = threading.Lock()
        self._future: Future[Sums] | None = None
        self._read_at = 0.0

    def start(self) -> Future[Sums]:
        """Read the values, unless a read runs or its values are still fresh."""
        with self._lock:
            future = self._future
            fresh = monotonic() - self._read_at < CACHE_SECONDS
            if future is None or (future.done() and not fresh):
                self._future = future = Future()
                if start_thread(partial(self._run, future), f"metrics of {self._source}") is None:
                    future.set_exception(RuntimeError(TOO_MANY_THREADS))
            return future

    def values(self, until: float) -> Sums | None:
        """Return the values, or None if they cannot be read until a monotonic time."""
        try:
            values = self.start().result(max(0.0, until - monotonic()))
        except NotInTime:
            self._note("it did not answer in time")
            return None
        except Exception as error:
            self._note(f"{type(error).__name__}: {error}")
            return None
        self._was_up = True
        return values

    def _run(self, future: Future[Sums]) -> None:
        try:
            values = self._read()
        except BaseException as error:
            self._read_at = monotonic()
            future.set_exception(error)
        else:
            self._read_at = monotonic()
            future.set_result(values)

    def _note(self, reason: str) -> None:
        """Log that the values are missing, once."""
        if self._was_up:
            log.get().warning("metrics_missing", source=self._source.value, reason=reason[:200])
        self._was_up = False


class MetricsCollector(Collector):
    """Collects all families.

    Args:
        readers: of each source.
    """

    def __init__(self, readers: Mapping[Source, SourceReader]) -> None:
        self._readers = readers

    def collect(self) -> Iterator[Metric]:
        """Yield the families whose values can be read now."""
        until = monotonic() + SCRAPE_SECONDS
        for reader in self._readers.values():
            reader.start()
        collected = Sums()
        for source, reader in self._readers.items():
            values = reader.values(until)
            collected.add(metrics.UP, source.value, amount=float(values is not None))
            collected.merge(values or {})
        yield from families(collected)


def families(values: Mapping[Series, float]) -> Iterator[Metric]:
    """Yield the family of each metric that has values, in the order of the definitions."""
    by_metric: dict[str, dict[Labels, dict[str, float]]] = {}
    for series, value in values.items():
        samples = by_metric.setdefault(series.metric, {}).setdefault(series.labels, {})
        samples[series.part] = value
    for name, definition in DEFINITIONS.items():
        if name in by_metric:
            yield _family(definition, by_metric[name])


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the route."""
    routes = Blueprint("metrics", __name__)
    readers = {source: _reader(runtime, source) for source in READERS}
    collector = MetricsCollector(readers)

    @routes.get("/metrics")
    def show() -> Response:
        """Get every metric, in the text format that the client asks for."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(collector), content_type=content_type)

    return routes


def _reader(runtime: Runtime, source: Source) -> SourceReader:
    return SourceReader(source, lambda: READERS[source](runtime))


def _family(definition: Definition, values: Mapping[Labels, Mapping[str, float]]) -> Metric:
    unit = "seconds" if definition.name.endswith("_seconds") else ""
    name, meaning, labels = definition.name, definition.meaning, definition.labels
    if definition.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, meaning, labels=labels, unit=unit)
        for key in sorted(values):
            samples = values[key]
            histogram.add_metric(key, _buckets(definition, samples), samples.get(SUM, 0.0))
        return histogram
    family = CounterMetricFamily if definition.kind is Kind.COUNTER else GaugeMetricFamily
    made = family(name, meaning, labels=labels, unit=unit)
    for key in sorted(values):
        made.add_metric(key, values[key].get("", 0.0))
    return made


def _buckets(definition: Definition, parts: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the cumulative buckets. Another version may have stored other bounds."""
    counts = {float(bound): count for bound, count in parts.items() if bound != SUM}
    return [
        (bound, sum(count for each, count in counts.items() if each <= float(bound)))
        for bound in definition.parts
    ]
