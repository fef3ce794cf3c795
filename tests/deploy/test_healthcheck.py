"""The image's health check: its exit status and its output."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from server.bundle import Bundle
from tests.e2e.conftest import ROOT, free_port
from tests.serving import running


def checked(port: int | None) -> tuple[int, str]:
    environment = os.environ | {"PRELABEL_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/healthcheck.py"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_server_that_is_ready(bundle: Bundle) -> None:
    with running(bundle) as client:
        assert checked(client.base_url.port) == (0, '{"status":"ready"}\n')


def test_no_server() -> None:
    status, said = checked(free_port())
    assert (status, "does not answer" in said) == (1, True)


def test_one_that_is_not_ready_says_why() -> None:
    class NotReady(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(b'{"status":"not ready","detail":"the model does not answer"}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), NotReady) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        status, said = checked(server.server_port)
        thread.join()
    assert (status, "the model does not answer" in said) == (1, True)
