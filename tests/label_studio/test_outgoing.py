"""Where requests go: to the Label Studio and the backend that the user named, and from the server nowhere."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest

from server.annotate.backend_source import open_backend
from server.bundle import Bundle
from server.connect.backend_probe import BackendProblem, set_up
from server.connect.connect_steps import ConnectSteps
from server.connect.options import ConnectOptions
from server.connect.project import Project
from server.errors import BackendFailed, LabelStudioRefused
from server.label_studio.api_client import Api
from server.label_studio.credentials import BasicAuth, may_redirect
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.label_studio.ml_backend_client import MlBackendClient
from tests.conftest import ROOT
from tests.serving import predict, running
from tests.test_imports import imported

REDIRECTS = (301, 302, 303, 307, 308)
AUTH = BasicAuth("u", "p")


@dataclass
class Recorder:
    """A server that keeps what it is sent. `answers`: path → status and, for a redirect, where to; `said`:
    what it answers everywhere.
    """

    url: str = ""
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    said: Any = field(default_factory=lambda: {"status": "UP", "access": "a"})
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def recorder() -> Iterator[Recorder]:
    kept = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kept.seen.append((self.command, self.path, dict(self.headers), body))
            status, target = kept.answers.get(self.path, (200, ""))
            said = json.dumps(kept.said).encode()
            self.send_response(status)
            if target:
                self.send_header("Location", target)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def named() -> Iterator[Recorder]:
    """The server that the user named."""
    with recorder() as kept:
        yield kept


@pytest.fixture
def other() -> Iterator[Recorder]:
    """A server that the user did not name."""
    with recorder() as kept:
        yield kept


def test_redirects_stay_with_the_server_that_was_named() -> None:
    assert may_redirect("http://studio:8080", "http://studio:8080/login")
    assert may_redirect("http://studio", "https://studio/api")
    assert may_redirect("http://studio:8080", "https://studio/api")
    for url in (
        "http://studio:8081/",
        "http://other:8080/",
        "https://other/",
        "http://studio.evil:8080/",
        "http://studio:8080@evil/",
    ):
        assert not may_redirect("http://studio:8080", url)
    assert not may_redirect("https://studio", "http://studio")


@pytest.mark.parametrize("status", REDIRECTS)
def test_label_studios_token_and_tasks_never_go_to_another_server(
    named: Recorder, other: Recorder, status: int
) -> None:
    named.answers["/api/version"] = (status, f"{other.url}/api/version")
    api = Api(named.url, "legacy", retries=0)
    for method, body in (("GET", None), ("POST", [{"task": 1}])):
        with pytest.raises(LabelStudioRefused, match=f"redirects to {other.url}, another server"):
            api.call(method, "version", json=body)  # type: ignore[arg-type]
    assert len(named.seen) == 2
    assert other.seen == []


def test_a_personal_access_token_never_goes_to_another_server(named: Recorder, other: Recorder) -> None:
    """It is sent in a body, which no library takes out of a redirected request."""
    token = jwt.encode({"exp": int(time.time()) + 3600, "token_type": "refresh"}, "x" * 32)
    named.answers["/api/token/refresh/"] = (307, f"{other.url}/api/token/refresh/")
    with pytest.raises(LabelStudioRefused, match="another server"):
        Api(named.url, token, retries=0).get("version")
    assert [path for _, path, _, _ in named.seen] == ["/api/token/refresh/"]
    assert token.encode() in named.seen[0][3]
    assert other.seen == []


def test_a_redirect_within_label_studio_is_followed(named: Recorder) -> None:
    named.answers["/api/version"] = (302, "/api/version/")
    assert Api(named.url, "legacy", retries=0).get("version") == {"status": "UP", "access": "a"}
    assert [(path, headers["Authorization"]) for _, path, headers, _ in named.seen] == [
        ("/api/version", "Token legacy"),
        ("/api/version/", "Token legacy"),
    ]


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_backends_password_and_tasks_never_go_to_another_server(
    named: Recorder, other: Recorder, status: int
) -> None:
    named.answers |= {path: (status, f"{other.url}{path}") for path in ("/health", "/setup")}
    with MlBackendClient(named.url, AUTH, 5.0) as client, pytest.raises(BackendProblem, match=str(status)):
        set_up(client, "1.1", TUTORIAL_CONFIG, None)
    with (
        open_backend(named.url, AUTH, {}, lambda _: None) as source,
        pytest.raises(BackendFailed, match=str(status)),
    ):
        source(1, TUTORIAL_CONFIG)
    assert len(named.seen) == 2
    assert other.seen == []


def test_connect_asks_on_no_host_that_only_label_studio_names(named: Recorder, other: Recorder) -> None:
    elsewhere = other.url.replace("127.0.0.1", "localhost")
    hook = {
        "id": 1,
        "project": 7,
        "send_payload": True,
        "send_for_all_actions": True,
        "headers": {},
        "is_active": True,
        "actions": [],
    }
    options = ConnectOptions(named.url, 7, "http://127.0.0.1:9", AUTH, check=True)
    steps = ConnectSteps(Project(options, Api(named.url, "legacy", retries=0)))
    named.said = [hook | {"url": f"{elsewhere}/webhook"}]
    assert [line.mark for line in steps.orphaned_webhooks()] == ["–"]
    assert other.seen == []
    named.said = [hook | {"url": f"{other.url}/webhook"}]
    assert [line.mark for line in steps.orphaned_webhooks()] == ["✗"]
    assert [(method, path, "Authorization" in headers) for method, path, headers, _ in other.seen] == [
        ("GET", "/health", False)
    ]


def test_the_server_sends_no_requests(bundle: Bundle, other: Recorder) -> None:
    """What Label Studio calls its hostname is data, and so is a text that is an address."""
    fetching = TUTORIAL_CONFIG.replace('value="$review"', 'value="$review" valueType="url"')
    with running(bundle) as client:
        for config in (
            TUTORIAL_CONFIG,
            fetching,
            f'<!DOCTYPE x SYSTEM "{other.url}/x.dtd">{TUTORIAL_CONFIG}',
        ):
            body = {
                "project": "1.1",
                "schema": config,
                "hostname": other.url,
                "access_token": "t",
                "extra_params": None,
            }
            assert client.post("/setup", json=body).status_code == (200 if config is TUTORIAL_CONFIG else 422)
        taxonomy = TUTORIAL_CONFIG.replace(
            "</View>", f'<Taxonomy name="t" toName="text" apiUrl="{other.url}/items"/></View>'
        )
        assert client.post("/setup", json={"project": "1.1", "schema": taxonomy}).status_code in (200, 422)
        assert len(predict(client, [f"{other.url}/text", f'<img src="{other.url}/image">'])) == 2
        assert (
            client.post(
                "/webhook", json={"action": "START_TRAINING", "project": {"url": other.url}}
            ).status_code
            == 200
        )
    assert other.seen == []


OPEN = """
import sys
from pathlib import Path
from server.bundle import read_bundle
from server.engines.factory import open_engine
open_engine(read_bundle(Path(sys.argv[1])), engine="onnx", device="cpu")
"""


def test_onnx_runtime_does_not_report_the_machine(bundle: Bundle, tmp_path: Path) -> None:
    """Its telemetry keeps an id of the machine and a queue in these folders, and sends them to Microsoft."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", OPEN, str(bundle.path)],
        env=environment | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path)},
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    assert not [*tmp_path.rglob("*onnxruntime*"), *tmp_path.rglob(".ses")]


def test_the_server_has_no_http_client_of_its_own() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "server" / "launch" / "launcher.py"]
    while waiting:
        path = waiting.pop()
        reached.add(path)
        names = imported(path)
        assert not names & {"httpx", "requests", "urllib.request", "http.client", "label_studio_sdk"}, path
        modules = [ROOT / name.replace(".", "/") for name in names if name.startswith("server.")]
        found = {
            each
            for module in modules
            for each in (module.with_suffix(".py"), module / "__init__.py")
            if each.exists()
        }
        waiting += found - reached
    assert ROOT / "server" / "label_studio" / "labeling_config.py" in reached
