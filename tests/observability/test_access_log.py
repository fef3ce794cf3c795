"""Access log: one line per request, with the ID of the response and nothing that a client sent."""

import asyncio
import json
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from server.app import build_app
from server.bundle import Bundle
from server.errors import BadRequest
from server.launch.startup_banner import address, as_lines, auth_methods
from server.log_setup import JsonLines, TextLines
from server.observability.access_log import HttpStats, RequestContext, fields_of, level_of, request_id
from server.settings import load_settings
from server.transport.middleware import HEADERS, with_default_headers
from tests.e2e.conftest import serving
from tests.serving import predict, predict_body, running, set_up


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[httpx.Client]:
    with running(bundle, max_body_bytes=5000, max_tasks=3) as client:
        yield client


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def test_one_line_per_request_with_its_timings(bundle: Bundle, tmp_path: Path) -> None:
    with serving(
        bundle.path, tmp_path / "log", "--device", "cpu", settings={"PRELABEL_PATH_PREFIX": "/p"}
    ) as client:
        set_up(client)
        predict(client, ["good film", "bad", None])
        predict(client, ["good film"], path=f"/p/{bundle.path.name}")
        client.get("/health")
        client.get("/nowhere", params={"q": "x"}, headers={"X-Request-Id": "mine-1"})
        client.post("/predict", json={})
    lines = [line for line in lines_of(tmp_path / "log") if line["message"] == "request"]
    assert [(line["method"], line.get("route"), line["status"], line["level"]) for line in lines] == [
        ("POST", "/setup", 200, "info"), ("POST", "/predict", 200, "info"), ("POST", "/predict", 200, "info"),
        ("GET", None, 404, "warning"), ("POST", "/predict", 400, "warning"),
    ]  # fmt: skip
    first = lines[1]
    assert (
        first.items()
        >= {
            "project": "1.1795474444",
            "model": bundle.path.name,
            "tasks": 3,
            "empty": 1,
            "client": "127.0.0.1",
        }.items()
    )
    assert first["bytes_in"] == len(
        httpx.Request("POST", "http://x", json=predict_body(["good film", "bad", None])).content
    )
    assert {"tokens", "queue_ms", "engine_ms", "total_ms", "bytes_out", "time", "logger"} <= set(first)
    assert first["total_ms"] > first["engine_ms"] > 0
    assert lines[3]["request_id"] == "mine-1"
    assert (
        lines[4].items()
        >= {"error": "BadRequest", "reason": "tasks: expected a list of tasks, found nothing."}.items()
    )
    ids = [line["request_id"] for line in lines]
    assert len(set(ids)) == len(ids)
    assert "127.0.0.1:" not in "".join(json.dumps(line) for line in lines)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", b"", 200),
        ("GET", "/health", b"", 200),
        ("GET", "/nowhere", b"", 404),
        ("GET", "/predict", b"", 405),
        ("POST", "/predict", b"x", 400),
        ("POST", "/predict", b"x" * 6000, 413),
        ("POST", "/admin/reload", b"", 401),
        ("POST", "/setup", b'{"schema": "<View/>"}', 422),
    ],
)
def test_every_response_has_the_request_id(
    client: httpx.Client, method: str, path: str, body: bytes, status: int
) -> None:
    for given in ({}, {"X-Request-Id": "abc.DEF_1-2"}, {"X-Request-Id": "a b"}, {"X-Request-Id": "x" * 65}):
        answer = client.request(method, path, content=body, headers=given)
        found = answer.headers["x-request-id"]
        assert answer.status_code == status
        assert (
            found == "abc.DEF_1-2"
            if given.get("X-Request-Id", "").startswith("abc")
            else re.fullmatch(r"[0-9a-f]{16}", found)
        )
        assert status == 200 or answer.json()["request_id"] == found
        assert {name: answer.headers[name.decode()].encode() for name, _ in HEADERS} == dict(HEADERS)


def test_an_unhandled_exception_returns_the_id_and_is_logged_without_its_message(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    app = build_app(load_settings(bundle=(bundle.path,), device="cpu"))

    sent = "a text of the client's"

    async def fails(_: Request) -> Response:
        raise ValueError(sent)

    app.add_route("/fails", fails, methods=["GET"])
    transport = httpx.ASGITransport(app=app)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/fails", headers={"X-Request-Id": "7"})

    answer = asyncio.run(ask())
    assert (
        answer.status_code,
        answer.json()["request_id"],
        answer.headers["x-request-id"],
        answer.headers["cache-control"],
    ) == (500, "7", "7", "no-store")
    mistake = next(context for context in caplog.records if context.exc_info)
    request = next(
        context for context in caplog.records if getattr(context, "fields", {}).get("request_id") == "7"
    )
    for form in (JsonLines(), TextLines()):
        line = form.format(mistake)
        assert "ValueError" in line
        assert "in fails" in line
        assert sent not in line
    assert request.levelno == logging.ERROR


def test_ids_levels_and_fields() -> None:
    assert request_id([(b"x-request-id", b"a-1")]) == "a-1"
    assert request_id([(b"x-request-id", b"a\n")]) != "a\n"
    assert level_of("/health", 200) == logging.DEBUG
    assert level_of("/health", 401) == logging.WARNING
    assert level_of("/predict", 200) == level_of(None, 307) == logging.INFO
    assert level_of("/predict", 503) == level_of("/predict", 0) == logging.ERROR
    context = RequestContext("1", project="a text that is no name", error=BadRequest("no"))
    fields = fields_of(context, HttpStats("GET", "for=client\n", status=400))
    assert fields == {
        "request_id": "1",
        "method": "GET",
        "status": 400,
        "project": "unknown",
        "total_ms": 0.0,
        "bytes_in": 0,
        "bytes_out": 0,
        "error": "BadRequest",
        "reason": "no",
    }


def test_headers_of_the_response_take_precedence() -> None:
    own = [(b"cache-control", b"max-age=5"), (b"content-type", b"text/html")]
    found = with_default_headers(own)
    assert found[:2] == own
    assert [name for name, _ in found].count(b"cache-control") == 1
    assert len(found) == len(HEADERS) + 1


def test_a_client_cannot_inject_log_lines() -> None:
    context = logging.LogRecord("x", logging.INFO, "", 0, "said %s", ("a\nb \x1b[31m \ud800 é",), None)
    context.fields = {"status": 200}
    assert "\n" not in TextLines().format(context)
    assert TextLines().format(context).endswith(r"INFO    said a\nb \x1b[31m \ud800 é status=200")
    assert (
        json.loads(JsonLines().format(context)).items()
        >= {"message": "said a\nb \x1b[31m \ud800 é", "status": 200}.items()
    )
    assert "\n" not in JsonLines().format(context)


def test_the_startup_banner(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle.path, tmp_path / "json", "--device", "cpu") as client:
        url = str(client.base_url).rstrip("/")
    banner = lines_of(tmp_path / "json")[0]
    assert banner["models"] == [
        {"name": "tiny", "version": bundle.version, "engine": "tables", "device": "cpu", "url": url}
    ]
    assert banner.items() >= {"message": "serving", "level": "info", "workers": 1, "auth": "none"}.items()
    assert banner["limits"] == {
        "tasks": 50000,
        "body_bytes": 268435456,
        "requests": 128,
        "waiting_rows": 200000,
        "seconds": 95.0,
    }
    lines = as_lines(banner)
    assert lines[0] == f"{bundle.version} (tables on cpu): connect Label Studio to {url}"
    assert lines[-1] == "auth: none"


def test_the_url_of_the_banner_works_from_other_hosts() -> None:
    assert address(load_settings(host="0.0.0.0", path_prefix="/p")) == f"http://{socket.gethostname()}:9090/p"  # noqa: S104
    assert address(load_settings(host="::1")) == "http://[::1]:9090"
    assert "every host that reaches the port" in auth_methods(load_settings(host="0.0.0.0"))  # noqa: S104
    assert auth_methods(load_settings(basic_auth_user="u", basic_auth_pass="p")) == "user and password"


def test_the_format_is_a_setting(bundle: Bundle, tmp_path: Path) -> None:
    with serving(
        bundle.path,
        tmp_path / "log",
        "--device",
        "cpu",
        "--log-format",
        "text",
        settings={"PRELABEL_LOG_LEVEL": "debug"},
    ) as client:
        assert "server" not in client.get("/health").headers
    log = (tmp_path / "log").read_text("utf-8")
    assert re.search(
        r"DEBUG   request request_id=[0-9a-f]{16} method=GET route=/health status=200 model=tiny total_ms=",
        log,
    )
    assert "Application shutdown complete" in log
