"""`prelabel serve --on-ray` with a replica on each of two nodes: the same answers as without Ray, also while
a node fails.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from export.cnn import Network
from export.publish_checkpoint import export_bundle
from server.bundle import Bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from tests.conftest import ROOT, random_texts, tiny_network
from tests.e2e.conftest import free_port
from tests.launch.test_signals import PATIENCE, until
from tests.on_ray.conftest import TwoNodes
from tests.serving import predict, predict_body, running

pytestmark = pytest.mark.ray

TOKEN = "secret-token-1"
ADMIN = "secret-token-2"
CREDENTIALS = {"Authorization": f"Bearer {TOKEN}"}
TEXTS = random_texts(200)
CLIENTS = 6


@dataclass
class Served:
    """A running `prelabel serve --on-ray`."""

    process: "subprocess.Popen[str]"
    address: str
    live: Path
    cluster: TwoNodes

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=PATIENCE, headers=CREDENTIALS)

    def health(self) -> dict[str, Any]:
        """Empty while no replica answers."""
        assert self.process.poll() is None
        try:
            with self.client() as client:
                answer = client.get("/health")
            health: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
            return health
        except httpx.TransportError:
            return {}

    def seen(self) -> set[int]:
        """Processes of the replicas that answered."""
        return {health["worker"]["process"] for _ in range(30) if (health := self.health())}


@pytest.fixture
def live(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "live"))


@pytest.fixture
def untraced(network: Network, tmp_path: Path) -> Path:
    """A bundle without model.ts, which only a replica with engine=torchscript rejects."""
    return export_bundle(network, tmp_path / "untraced", torchscript=False).path


@contextmanager
def served(cluster: TwoNodes, live: Path, replicas: str = "2", **settings: str) -> Iterator[Served]:
    port = free_port()
    command = [
        sys.executable,
        "prelabel.py",
        "serve",
        "--on-ray",
        "--ray-address",
        cluster.address,
        "--replicas",
        replicas,
    ]
    environment = os.environ | {"PRELABEL_API_TOKEN": TOKEN, "PRELABEL_ADMIN_TOKEN": ADMIN} | settings
    options = ["--bundle", str(live), "--port", str(port)]
    with subprocess.Popen(
        [*command, *options], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            found = Served(process, f"http://127.0.0.1:{port}", live, cluster)
            until(lambda: len(found.seen()) == int(replicas[0]))
            yield found
        finally:
            process.terminate()
            log = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 0, log


@dataclass
class Load:
    """Single tasks from several clients at once, each answer compared. `errors` counts other responses by
    status and text.
    """

    served: Served
    expected: dict[str, list[Any]]
    right: int = 0
    errors: "Counter[tuple[int, str]]" = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)

    @contextmanager
    def applied(self) -> Iterator[None]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._send, args=(first, stop)) for first in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def more(self, answers: int) -> None:
        """Wait for that many more right answers."""
        target = self.right + answers
        until(lambda: self.right >= target)

    def _send(self, index: int, stop: threading.Event) -> None:
        with self.served.client() as client:
            while not stop.is_set():
                index = (index + 7) % len(TEXTS)
                try:
                    answer = client.post("/predict", json=predict_body([TEXTS[index]]))
                except httpx.TransportError as error:
                    self.wrong.append(repr(error))
                    continue
                if answer.status_code != 200:
                    self.errors[answer.status_code, answer.text.splitlines()[0][:300]] += 1
                elif answer.json()["results"][0] in self.expected[TEXTS[index]]:
                    self.right += 1
                else:
                    self.wrong.append(answer.json())


def answers(*bundles: Bundle) -> dict[str, list[Any]]:
    """The predictions of a server without Ray for each text, with each of the bundles."""
    found: dict[str, list[Any]] = {text: [] for text in TEXTS}
    for bundle in bundles:
        with running(bundle) as client:
            for text, prediction in zip(TEXTS, predict(client, TEXTS), strict=True):
                found[text].append(prediction)
    return found


def test_a_node_fails_under_load(two_nodes: TwoNodes, live: Path, bundle: Bundle) -> None:
    with served(two_nodes, live) as server:
        load = Load(server, answers(bundle))
        before = server.seen()
        with load.applied():
            load.more(100)
            assert not load.errors
            two_nodes.kill_second()
            load.more(300)
            two_nodes.add_second()
            until(lambda: len(server.seen()) == 2)
            load.more(100)
        after = server.seen()
    assert not load.wrong
    assert len(before & after) == 1
    # the requests in flight on the failed replica, and none later
    assert set(load.errors) <= {(500, "Internal Server Error")}
    assert load.errors.total() <= CLIENTS


OWN = {"content-length", "date", "server", "server-timing", "x-request-id"}
"""Headers that differ between requests, and that of Ray's proxy, whose IDs are longer."""


def test_routes_answers_and_errors_are_the_same_and_no_secret_is_logged(
    two_nodes: TwoNodes, live: Path, bundle: Bundle
) -> None:
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/predict", {"json": predict_body(TEXTS)}),
        ("POST", "/predict", {"json": predict_body(TEXTS[:1], "<View/>")}),
        ("POST", "/predict", {"content": b"not JSON"}),
        ("POST", "/predict", {"json": predict_body(["x" * 600_000])}),
        ("POST", "/predict", {"json": predict_body(TEXTS[:1]), "headers": {"Authorization": "Bearer wrong"}}),
        ("POST", "/live/predict", {"json": predict_body(TEXTS[:1])}),
        ("POST", "/prelabel/predict", {"json": predict_body(TEXTS[:1])}),
        ("POST", "/setup", {"json": {"project": "1.2", "schema": TUTORIAL_CONFIG}}),
        ("POST", "/webhook", {"json": {"action": "START_TRAINING"}}),
        ("POST", "/admin/rollback", {}),
        *[
            ("GET", path, {})
            for path in ("/versions", "/live", "/ready", "/predict", "/nothing", "/v2", "/openapi.json")
        ],
    ]
    limits: dict[str, Any] = {"max_body_bytes": 500_000, "path_prefix": "/prelabel"}

    def answered(client: httpx.Client) -> list[Any]:
        found = []
        for method, path, options in requests:
            answer = client.request(method, path, **options)
            body = {name: value for name, value in answer.json().items() if name != "request_id"}
            found.append(
                (
                    answer.status_code,
                    body,
                    sorted((name, value) for name, value in answer.headers.items() if name not in OWN),
                )
            )
            assert len(answer.headers.get_list("x-request-id")) == 1
        return found

    # with the name of the copy's folder
    plain = replace(bundle, path=live)
    with running(plain, api_token=TOKEN, admin_token=ADMIN, **limits) as client:
        client.headers.update(CREDENTIALS)
        expected = answered(client)
    environment = {f"PRELABEL_{name.upper()}": str(value) for name, value in limits.items()}
    with served(two_nodes, live, **environment) as server, server.client() as client:
        assert answered(client) == expected
        assert client.get("/live", headers={"X-Request-Id": "mine"}).headers.get_list("x-request-id") == [
            "mine"
        ]
    assert {status for status, *_ in expected} == {200, 400, 401, 404, 405, 413, 422}
    secrets = [TOKEN.encode(), ADMIN.encode()]
    read = [path.read_bytes() for path in two_nodes.logs.rglob("*") if path.is_file()]
    assert len(read) > 10
    assert not [secret for secret in secrets for content in read if secret in content]


def test_a_full_replica_rejects_at_once_and_terminate_drains_requests_in_flight(
    two_nodes: TwoNodes, live: Path
) -> None:
    body = json.dumps(predict_body(TEXTS[:1])).encode()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: "
        f"{len(body)}\r\n\r\n"
    ).encode()
    begun: list[socket.socket] = []
    with (
        ExitStack() as opened,
        served(two_nodes, live, PRELABEL_MAX_REQUESTS="1", PRELABEL_BODY_TIMEOUT="90") as server,
        server.client() as client,
    ):
        # send incomplete bodies until a busy replica gets another request
        refused = None
        while refused is None or refused.status_code != 429:
            begun.append(
                opened.enter_context(
                    socket.create_connection((client.base_url.host, client.base_url.port), timeout=PATIENCE)
                )
            )
            begun[-1].sendall(head + body[:1])
            refused = client.post("/predict", json=predict_body(TEXTS[:1]))
            assert refused.status_code in (200, 429)
        assert (refused.headers["retry-after"], "PRELABEL_MAX_REQUESTS" in refused.text) == ("1", True)
        assert client.get("/ready").status_code == 200
        server.process.terminate()
        until(lambda: client.get("/live").status_code == 404)
        for each in begun:
            each.sendall(body[1:])
        statuses = Counter(each.recv(65_536).split()[1] for each in begun)
    assert (statuses[b"200"] in (1, 2), statuses.total() - statuses[b"200"]) == (True, statuses[b"429"])


def test_a_rejected_bundle_is_not_deployed(two_nodes: TwoNodes, live: Path, untraced: Path) -> None:
    with served(two_nodes, live) as server:
        manifest = (live / "manifest.json").read_bytes()
        (live / "manifest.json").write_bytes(b"{}")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        line = next(line for line in server.process.stderr if "the new bundle was rejected" in line)
        assert "manifest.json" in line
        assert len(server.seen()) == 2
        (live / "manifest.json").write_bytes(manifest)
        # a second command that fails leaves the application broken; the first command repairs it
        command = [
            sys.executable,
            "prelabel.py",
            "serve",
            "--on-ray",
            "--ray-address",
            two_nodes.address,
            "--replicas",
            "2",
            "--engine",
            "torchscript",
        ]
        second = subprocess.run(
            [*command, "--bundle", str(untraced), "--port", server.address.rpartition(":")[2]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert (second.returncode, "the bundle has no model.ts" in second.stderr) == (1, True)
        until(lambda: bool(server.seen()))
        server.process.send_signal(signal.SIGHUP)
        until(lambda: len(server.seen()) == 2)


def test_a_failed_start_is_one_sentence(two_nodes: TwoNodes, live: Path, untraced: Path) -> None:
    def started(port: int, *options: str, bundle: Path = live) -> str:
        command = [
            sys.executable,
            "prelabel.py",
            "serve",
            "--on-ray",
            "--ray-address",
            two_nodes.address,
            "--bundle",
            str(bundle),
            "--port",
            str(port),
        ]
        done = subprocess.run(
            [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
        return done.stderr.splitlines()[-1]

    command = [
        sys.executable,
        "prelabel.py",
        "serve",
        "--on-ray",
        "--ray-address",
        two_nodes.address,
        "--bundle",
        str(live),
        "--replicas",
        "3",
    ]
    with subprocess.Popen(
        [*command, "--port", str(free_port())], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as waits:
        assert waits.stderr is not None
        assert any(
            "need 3 CPUs and 0 GPUs, but the cluster has 2 and 0: waiting" in line for line in waits.stderr
        )
        waits.terminate()
        waits.communicate(timeout=PATIENCE)
    assert waits.returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Error: Ray's HTTP proxy did not start on 127.0.0.1:{port}" in started(port)
    assert f"Error: The replicas did not start: {untraced}: the bundle has no model.ts" in started(
        free_port(), "--engine", "torchscript", bundle=untraced
    )
    assert "no Ray cluster answers" in started(free_port(), "--ray-address", "127.0.0.4:1")


def test_a_range_of_replicas_follows_the_load(two_nodes: TwoNodes, live: Path, bundle: Bundle) -> None:
    # the target is then one request in flight per replica
    with served(two_nodes, live, "1-2", PRELABEL_MAX_REQUESTS="8") as server:
        load = Load(server, answers(bundle))
        with load.applied():
            until(lambda: len(server.seen()) == 2)
        assert not load.wrong
        assert {status for status, _ in load.errors} <= {429}


def test_a_new_bundle_is_deployed_without_losing_a_request(
    two_nodes: TwoNodes, live: Path, bundle: Bundle, tmp_path: Path
) -> None:
    other = export_bundle(tiny_network(seed=1), tmp_path / "other", torchscript=False)
    with served(two_nodes, live) as server:
        load = Load(server, answers(bundle, other))
        with server.client() as client:
            refused = client.post("/admin/reload", headers={"Authorization": f"Bearer {ADMIN}"})
        assert (refused.status_code, f"process {server.process.pid} on" in refused.text) == (400, True)
        with load.applied():
            load.more(100)
            shutil.rmtree(live)
            other.path.rename(live)
            server.process.send_signal(signal.SIGHUP)
            until(lambda: {server.health().get("model_version") for _ in range(20)} == {other.version})
            load.more(100)
        assert not load.wrong
        assert not load.errors
