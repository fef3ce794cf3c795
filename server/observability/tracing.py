"""Traces for OpenTelemetry, where the standard variables ask for them; else nothing of this is imported or
runs.

A span a request, continued from the caller's `traceparent`, and below it one for each stage of a request for
predictions. They are made when the request is over, from what was measured anyway, and sent in the
background. No text, token or address is in them.
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
"""Others a client has made up; the semantic conventions call them _OTHER."""


def wanted(environment: Mapping[str, str]) -> str | None:
    """The variable that asks for traces; None where none does, or another one forbids them."""
    if (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER") == "none"
    ):
        return None
    return next((name for name in ENDPOINTS if environment.get(name)), None)


def open_traces(environment: Mapping[str, str]) -> "TracerProvider | None":
    """Sends spans over OTLP/HTTP to the endpoint that `environment` names; None where it names none. Raises
    BadSetting where the packages are missing.
    """
    asked = wanted(environment)
    if asked is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise BadSetting(
            f"{asked} asks for traces, and OpenTelemetry is not installed; install prelabel[otel], or "
            "unset it."
        ) from None
    ours = Resource.create({"service.name": "prelabel", "service.version": version("prelabel")})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


async def close_traces(provider: "TracerProvider") -> None:
    """Sends what is not sent yet."""
    await asyncio.to_thread(provider.shutdown)


class Traced:
    """ASGI middleware around the envelope, which leaves what it knows of a request in the scope's state."""

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
                self._told(carrier, begun, state["context"], state["http_stats"])

    def _told(
        self, carrier: Mapping[str, str], begun: int, context: RequestContext, http_stats: HttpStats
    ) -> None:
        """`begun` in nanoseconds."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        attributes = attributes_of(context, http_stats)
        name = " ".join(filter(None, (str(attributes["http.request.method"]), http_stats.route)))
        parent = self._propagator.extract(carrier)
        span = self._tracer.start_span(
            name, context=parent, kind=SpanKind.SERVER, attributes=attributes, start_time=begun
        )
        if span.is_recording():
            if http_stats.status >= 500 or not http_stats.status:
                span.set_status(StatusCode.ERROR)
            inside = set_span_in_context(span)
            for stage, start, end in laid_out(context.seconds, http_stats.seconds):
                child = self._tracer.start_span(stage, context=inside, start_time=begun + start)
                child.end(begun + end)
        span.end(begun + int(http_stats.seconds * 1e9))


def attributes_of(context: RequestContext, http_stats: HttpStats) -> dict[str, Any]:
    """By the semantic conventions for HTTP servers where they have a name for it."""
    found = {
        "http.request.method": http_stats.method if http_stats.method in METHODS else "_OTHER",
        "http.route": http_stats.route,
        "http.response.status_code": http_stats.status or None,
        "error.type": type(context.error).__name__ if context.error else None,
        "prelabel.request_id": context.id,
        "prelabel.model": http_stats.model,
        "prelabel.tasks": context.tasks,
        "prelabel.tokens": context.tokens,
    }
    return {name: value for name, value in found.items() if value is not None}


def laid_out(seconds: Mapping[str, float], total: float) -> list[tuple[str, int, int]]:
    """Each stage with its begin and end in nanoseconds of the request.

    One after the other, as a single task goes through them. In a large request pieces overlap and stages may
    take more than `total` together: then each is told from the beginning, for how long it took and not for
    when.
    """
    overlap = sum(seconds.values()) > total
    found, now = [], 0
    for stage, spent in seconds.items():
        end = now + int(spent * 1e9)
        found.append((stage, now, end))
        now = 0 if overlap else end
    return found
