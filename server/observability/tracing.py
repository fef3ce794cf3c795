"""OpenTelemetry traces, if the standard OTEL_* variables ask for them. Otherwise nothing of it is imported.

Each request gets a span that continues the caller's `traceparent`, and a prediction request one child span
per stage. Spans are created when the request is finished, from timings that are measured anyway, and exported
in the background. They contain no texts, tokens or addresses.
"""

import asyncio
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import BadSetting
from server.observability.access_log import PROBES, HttpStats, RequestContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
"""HTTP methods reported by name. The semantic conventions call any other method `_OTHER`."""


def endpoint_variable(environment: Mapping[str, str]) -> str | None:
    """The name of the variable that enables tracing; None if none is set or another variable disables it."""
    if (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER") == "none"
    ):
        return None
    return next((name for name in ENDPOINTS if environment.get(name)), None)


def open_traces(environment: Mapping[str, str]) -> "TracerProvider | None":
    """A provider that exports nothing until `start_traces`; None if `environment` does not enable tracing.
    Raises BadSetting if the packages are missing.
    """
    variable = endpoint_variable(environment)
    if variable is None:
        return None
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401 - start_traces needs it
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
    except ImportError:
        raise BadSetting(
            f"{variable} enables traces, but OpenTelemetry is not installed; install prelabel[otel], or "
            "unset the variable."
        ) from None
    defaults = Resource.create({"service.name": "prelabel", "service.version": version("prelabel")})
    return TracerProvider(resource=defaults.merge(OTELResourceDetector().detect()))


def start_traces(provider: "TracerProvider") -> None:
    """Start the background thread that exports spans over OTLP/HTTP to the endpoint of the environment."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))


async def close_traces(provider: "TracerProvider") -> None:
    """Export the remaining spans and end the thread."""
    await asyncio.to_thread(provider.shutdown)


class TracingMiddleware:
    """ASGI middleware outside RequestMiddleware, which leaves the request's context in `scope["state"]`."""

    def __init__(self, app: ASGIApp, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = provider.get_tracer("prelabel", version("prelabel"))
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.time_ns()
        try:
            await self._app(scope, receive, send)
        finally:
            state = scope.get("state", {})
            if "http_stats" in state and state["http_stats"].route not in PROBES:
                carrier = {
                    name.decode("latin-1"): value.decode("latin-1")
                    for name, value in scope["headers"]
                    if name in (b"traceparent", b"tracestate")
                }
                self._record(carrier, begun, state["context"], state["http_stats"])

    def _record(
        self, carrier: Mapping[str, str], begun: int, context: RequestContext, http_stats: HttpStats
    ) -> None:
        """Create the spans of a finished request that began at `begun`, in nanoseconds since the epoch."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        attributes = span_attributes(context, http_stats)
        name = " ".join(filter(None, (str(attributes["http.request.method"]), http_stats.route)))
        parent = self._propagator.extract(carrier)
        span = self._tracer.start_span(
            name, context=parent, kind=SpanKind.SERVER, attributes=attributes, start_time=begun
        )
        if span.is_recording():
            if http_stats.status >= 500 or not http_stats.status:
                span.set_status(StatusCode.ERROR)
            inner = set_span_in_context(span)
            for stage, start, end in stage_intervals(context.seconds, http_stats.seconds):
                child = self._tracer.start_span(stage, context=inner, start_time=begun + start)
                child.end(begun + end)
        span.end(begun + int(http_stats.seconds * 1e9))


def span_attributes(context: RequestContext, http_stats: HttpStats) -> dict[str, Any]:
    """Named as in the semantic conventions for HTTP servers where these have a name."""
    attributes = {
        "http.request.method": http_stats.method if http_stats.method in METHODS else "_OTHER",
        "http.route": http_stats.route,
        "http.response.status_code": http_stats.status or None,
        "error.type": type(context.error).__name__ if context.error else None,
        "prelabel.request_id": context.id,
        "prelabel.model": http_stats.model,
        "prelabel.tasks": context.tasks,
        "prelabel.tokens": context.tokens,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def stage_intervals(seconds: Mapping[str, float], total: float) -> list[tuple[str, int, int]]:
    """(stage, start, end) in nanoseconds from the start of the request.

    The stages of a single task follow one another. In a large request they overlap and their sum may exceed
    `total`. In that case every stage starts at 0 and only its duration is meaningful.
    """
    overlap = sum(seconds.values()) > total
    intervals, now = [], 0
    for stage, spent in seconds.items():
        end = now + int(spent * 1e9)
        intervals.append((stage, now, end))
        now = 0 if overlap else end
    return intervals
