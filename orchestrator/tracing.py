"""Traces of jobs: one trace from the caller over all steps, across processes and hours.

A job stores the context of the span that created it, and every step continues it. Without the extra
`otel`, or without a tracer provider, nothing is measured and nothing is stored. A span never holds
a prompt, a link or a token.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

from orchestrator import log

try:
    from opentelemetry import trace
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    INSTALLED = True
except ImportError:
    INSTALLED = False

#: Any of these variables asks for traces. They are those of OpenTelemetry.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
#: The name of our spans' instrumentation, and of our service unless OTEL_SERVICE_NAME is set.
SCOPE = "image-orchestrator"
#: The W3C headers of a context. A job stores their values in this order.
HEADERS = ("traceparent", "tracestate")
#: The longest stored context. A longer one is stored without its `tracestate`. Characters.
MAX_CHARACTERS = 600


def configure() -> None:
    """Send the spans of this process to a collector, if OTEL_EXPORTER_OTLP_ENDPOINT is set."""
    named = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if named is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    if not INSTALLED:
        reason = f"{named} is set, but this extra is not installed: image-orchestrator[otel]"
        log.get().warning("traces_off", reason=reason)
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = os.environ.get("OTEL_SERVICE_NAME", SCOPE)
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def is_on() -> bool:
    """Return whether spans are recorded: by us, or by the application that uses our Python API."""
    return INSTALLED and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


class Span:
    """A part of a trace. It is active inside its `with` block. While traces are off, it is empty.

    An error inside the block is noted by the name of its class, because its text may hold a prompt.
    """

    def __init__(self, recorded: trace.Span | None = None) -> None:
        self._recorded = recorded
        self._active: AbstractContextManager[Any] | None = None

    def __enter__(self) -> Span:
        """Make the span active."""
        if self._recorded is not None:
            self._active = trace.use_span(
                self._recorded,
                end_on_exit=True,
                record_exception=False,
                set_status_on_exception=False,
            )
            self._active.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        """End the span."""
        if kind is not None:
            self.fail(kind.__name__)
        if self._active is not None:
            self._active.__exit__(None, None, None)

    def set(self, name: str, value: Any) -> None:
        """Add an attribute."""
        if self._recorded is not None:
            self._recorded.set_attribute(name, value)

    def answered(self, status: int) -> None:
        """Note the HTTP status of an answer. From 400 it is a failure."""
        self.set("http.response.status_code", status)
        if status >= 400:
            self.fail(str(status))

    def fail(self, kind: str) -> None:
        """Mark the operation as failed. `kind` is the class of the error."""
        if self._recorded is not None:
            self._recorded.set_attribute("error.type", kind)
            self._recorded.set_status(Status(StatusCode.ERROR))


def span(
    name: str,
    kind: str,
    attributes: Mapping[str, Any],
    *,
    parent: str = "",
    links: Sequence[str] = (),
) -> Span:
    """Return a span.

    Args:
        name: of the operation. It has few values.
        kind: client, server, producer, consumer or internal.
        attributes: by their names in the semantic conventions. Those that are None are left out.
        parent: the context of the parent, from `context`. Without one, the active span is it.
        links: the contexts of related spans.
    """
    if not is_on():
        return Span()
    started = trace.get_tracer(SCOPE).start_span(
        name,
        context=_context(parent) if parent else None,
        kind=SpanKind[kind.upper()],
        attributes={key: value for key, value in attributes.items() if value is not None},
        links=[Link(trace.get_current_span(_context(link)).get_span_context()) for link in links],
    )
    return Span(started)


@contextmanager
def continued(header: Callable[[str], Any]) -> Iterator[None]:
    """Make the sender of a request or message the parent of the spans inside the block.

    Args:
        header: returns the header with this name, or None. Without a valid `traceparent` nothing
            changes. An active span, as an instrumentation of the server makes it, stays the parent.
    """
    if not is_on() or trace.get_current_span().get_span_context().is_valid:
        yield
        return
    carrier = {name: str(value) for name in HEADERS if (value := header(name))}
    token = attach(_extracted(carrier))
    try:
        yield
    finally:
        detach(token)


def headers() -> dict[str, str]:
    """Return the headers `traceparent` and `tracestate` of the active span; empty without one."""
    carrier: dict[str, str] = {}
    if is_on():
        TraceContextTextMapPropagator().inject(carrier)
    return carrier


def context() -> str:
    """Return the context of the active span as one line of text; empty without one."""
    carrier = headers()
    text = " ".join(carrier[name] for name in HEADERS if carrier.get(name))
    return text if len(text) <= MAX_CHARACTERS else carrier["traceparent"]


def step_span(step: str, job_id: str, provider: str, parent: str) -> Span:
    """Return the span of one step of a job. `parent` is the context that the job stores."""
    if not is_on():
        return Span()
    attributes = {
        "messaging.system": "celery",
        "messaging.operation.type": "process",
        "messaging.operation.name": step,
        "messaging.message.conversation_id": job_id,
        "gen_ai.provider.name": provider,
    }
    return span(f"process {step}", "consumer", attributes, parent=parent)


def message_span(
    destination: str, messages: int = 1, links: Sequence[str] = (), *, system: str = "celery"
) -> Span:
    """Return the span of sending a message to a queue or stream.

    Args:
        destination: the queue or stream.
        messages: the number of jobs that the message names.
        links: the contexts of these jobs.
        system: that holds the queue or stream.
    """
    attributes = {
        "messaging.system": system,
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": destination,
        "messaging.batch.message_count": messages if messages > 1 else None,
    }
    return span(f"send {destination}", "producer", attributes, links=links)


def call_span(method: str, url: str, provider: str | None = None, model: str | None = None) -> Span:
    """Return the span of an HTTP call. Of the URL it has only the host and the port.

    Args:
        method: of the call.
        url: of the call.
        provider: the name of the provider that is called; None for another server.
        model: the model of a call that starts a generation.
    """
    if not is_on():
        return Span()
    address, port = _address(url)
    attributes = {
        "http.request.method": method,
        "server.address": address,
        "server.port": port,
        "gen_ai.provider.name": provider,
        "gen_ai.operation.name": "generate_content" if model else None,
        "gen_ai.request.model": model,
        "gen_ai.output.type": "image" if model else None,
    }
    return span(f"generate_content {model}" if model else method, "client", attributes)


def _address(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None, None


def _context(parent: str) -> Context:
    return _extracted(dict(zip(HEADERS, parent.split(" ", 1), strict=False)))


def _extracted(carrier: Mapping[str, str]) -> Context:
    return TraceContextTextMapPropagator().extract(carrier, context=Context())
