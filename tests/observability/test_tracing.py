"""Traces, exported to a real OTLP/HTTP receiver; nothing is loaded unless tracing is enabled."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from server.bundle import Bundle
from server.errors import BadSetting
from server.observability.tracing import (
    close_traces,
    endpoint_variable,
    open_traces,
    stage_intervals,
    start_traces,
)
from tests.conftest import ROOT
from tests.serving import predict, running

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(HTTPServer):
    """Receives exported spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[ExportTraceServiceRequest] = []
        self.raw = b""

    def spans(self) -> list[Span]:
        return [
            span
            for each in self.taken
            for resource in each.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        return {
            each.key: each.value.string_value for each in self.taken[0].resource_spans[0].resource.attributes
        }


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces"
        self.server.raw += body
        self.server.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_spans_of_a_request_and_its_stages_are_children_of_the_callers_span(
    bundle: Bundle, collector: Collector
) -> None:
    with running(bundle) as client:
        client.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
        predict(client, ["a secretive film"])
        del client.headers["traceparent"]
        client.get("/health")
        client.post("/predict", json={}, headers={"X-Request-Id": "mine"})
        client.get("/a/secretive/path", params={"q": "secretive"})
    predicted, refused, nowhere = [span for span in collector.spans() if span.kind == Span.SPAN_KIND_SERVER]
    assert (predicted.name, predicted.trace_id.hex(), predicted.parent_span_id.hex()) == (
        "POST /predict",
        TRACE,
        PARENT,
    )
    found = attributes(predicted)
    assert (
        found.items()
        >= {
            "http.request.method": "POST",
            "http.route": "/predict",
            "http.response.status_code": 200,
            "prelabel.tasks": 1,
        }.items()
    )
    assert found["prelabel.model"] == bundle.path.name
    stages = [span for span in collector.spans() if span.parent_span_id == predicted.span_id]
    assert [span.name for span in stages] == ["tokenize", "queue", "engine", "results"]
    assert all(
        predicted.start_time_unix_nano
        <= span.start_time_unix_nano
        <= span.end_time_unix_nano
        <= predicted.end_time_unix_nano
        for span in stages
    )
    assert all(before.end_time_unix_nano == after.start_time_unix_nano for before, after in pairwise(stages))
    assert (
        attributes(refused).items()
        >= {
            "error.type": "BadRequest",
            "http.response.status_code": 400,
            "prelabel.request_id": "mine",
        }.items()
    )
    assert (refused.status.code, nowhere.name, len(collector.spans())) == (Status.STATUS_CODE_UNSET, "GET", 7)
    assert (
        collector.resource().items()
        >= {"service.name": "prelabel", "deployment.environment.name": "test"}.items()
    )
    assert b"secretive" not in collector.raw


def test_a_callers_decision_not_to_sample_is_followed(bundle: Bundle, collector: Collector) -> None:
    with running(bundle) as client:
        client.headers["traceparent"] = f"00-{TRACE}-{PARENT}-00"
        predict(client, ["good"])
    assert collector.spans() == []


def test_overlapping_stages_start_at_zero() -> None:
    assert stage_intervals({"tokenize": 1e-6, "queue": 2e-6}, 5e-6) == [
        ("tokenize", 0, 1000),
        ("queue", 1000, 3000),
    ]
    assert stage_intervals({"tokenize": 1e-6, "queue": 2e-6}, 2e-6) == [
        ("tokenize", 0, 1000),
        ("queue", 0, 2000),
    ]
    assert stage_intervals({}, 1.0) == []


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_the_standard_variables_enable_and_disable(environment: dict[str, str], variable: str | None) -> None:
    assert endpoint_variable(environment) == variable


def test_missing_packages_are_an_error_at_startup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(BadSetting, match=r"OTEL_EXPORTER_OTLP_ENDPOINT enables traces.*prelabel\[otel\]"):
        open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})


def test_the_export_thread_starts_with_the_server_and_not_with_its_parts(collector: Collector) -> None:
    before = set(threading.enumerate())
    provider = open_traces(dict(os.environ))
    assert provider is not None
    assert set(threading.enumerate()) == before
    start_traces(provider)
    assert set(threading.enumerate()) > before
    asyncio.run(close_traces(provider))
    assert set(threading.enumerate()) == before


def test_nothing_is_loaded_unless_enabled(bundle: Bundle) -> None:
    code = (
        "import sys, pathlib; from server.app import build_app; from server.settings import load_settings;"
        f"app = build_app(load_settings(bundle=(pathlib.Path({str(bundle.path)!r}),), device='cpu'));"
        "names = [each.cls.__name__ for each in app.user_middleware];"
        "loaded = any(name.startswith('opentelemetry') for name in sys.modules);"
        "sys.exit(names != ['RequestMiddleware'] or loaded)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
