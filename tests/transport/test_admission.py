"""What may be inside at once, and clients that stall: they are refused or given up, and hold nothing."""

import asyncio
import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import psutil
import pytest
import uvloop

from server.bundle import Bundle
from server.errors import Overloaded
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.launch import uvicorn_protocol
from server.launch.uvicorn_protocol import MAX_HEAD
from server.transport.admission import CONTROL_REQUESTS, LARGE_REQUEST_BYTES, LARGE_SHARE, AdmissionController
from server.transport.request_body import MAX_CONTROL_BODY
from tests.launch.test_signals import until
from tests.serving import predict, predict_body, running


def test_requests_and_bytes_are_counted_while_in_progress() -> None:
    admission = AdmissionController.for_predictions(max_requests=2, max_bytes=10)
    with admission.request() as ticket:
        ticket.add_bytes(6)
        with admission.request() as other:
            with pytest.raises(Overloaded, match="PRELABEL_MAX_REQUESTS"):
                admission.request().__enter__()
            with pytest.raises(Overloaded, match="PRELABEL_MAX_WAITING_BYTES"):
                other.add_bytes(5)
            other.add_bytes(4)
        assert (admission.requests, admission.bytes) == (1, 6)
    assert (admission.requests, admission.bytes) == (0, 0)


def test_large_requests_leave_most_slots_to_others() -> None:
    admission = AdmissionController.for_predictions(2 * LARGE_SHARE, 10 * LARGE_REQUEST_BYTES)
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(admission.request()) for _ in range(3))
        first.expect(LARGE_REQUEST_BYTES + 1)
        second.expect(LARGE_REQUEST_BYTES + 1)
        with pytest.raises(Overloaded, match="the rest is for single tasks"):
            third.expect(LARGE_REQUEST_BYTES + 1)
        third.expect(LARGE_REQUEST_BYTES)
        assert admission.large == 2
    assert (admission.requests, admission.large) == (0, 0)


def test_a_body_of_unknown_length_becomes_a_large_request_when_it_grows() -> None:
    admission = AdmissionController.for_predictions(LARGE_SHARE, 10 * LARGE_REQUEST_BYTES)
    with admission.request() as first, admission.request() as second:
        first.add_bytes(LARGE_REQUEST_BYTES)
        assert admission.large == 0
        first.add_bytes(1)
        first.add_bytes(1)
        assert admission.large == 1
        second.add_bytes(LARGE_REQUEST_BYTES)
        with pytest.raises(Overloaded, match="the rest is for single tasks"):
            second.add_bytes(1)
    assert (admission.requests, admission.bytes, admission.large) == (0, 0, 0)


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection(
        (client.base_url.host, client.base_url.port or 80), timeout=30
    ) as connection:
        yield connection


def head(length: int, method: str = "POST", path: str = "/predict") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        f"{length}\r\n\r\n"
    ).encode()


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def test_a_body_that_stops_half_way_is_given_up(bundle: Bundle) -> None:
    with running(bundle, body_timeout=0.2, max_requests=1) as client:
        with connected(client) as stalled:
            stalled.sendall(head(1000) + b'{"tasks": [')
            assert b" 408 " in all_of(stalled)
        assert predict(client, ["good"])


def test_a_body_that_is_too_large_is_refused_before_it_comes(bundle: Bundle) -> None:
    with running(bundle, max_body_bytes=5000) as client, connected(client) as connection:
        connection.sendall(head(5001))
        assert b" 413 " in connection.recv(65536)


def test_a_request_over_the_limits_is_refused_at_once_and_the_one_in_progress_answered(
    bundle: Bundle,
) -> None:
    body = json.dumps(predict_body(["good film"])).encode()
    with running(bundle, max_requests=1) as client, connected(client) as first:
        first.sendall(head(len(body)) + body[:-1])
        until(lambda: client.post("/predict", json=predict_body(["bad"])).status_code == 429)
        refused = client.post("/predict", json=predict_body(["bad"]))
        assert (refused.json()["error"], "PRELABEL_MAX_REQUESTS" in refused.text) == ("Overloaded", True)
        assert refused.headers["retry-after"]
        first.sendall(body[-1:])
        assert b" 200 " in first.recv(65536)
        until(lambda: client.post("/predict", json=predict_body(["bad"])).status_code == 200)


def test_bytes_beyond_the_bound_are_refused_while_another_body_holds_them(bundle: Bundle) -> None:
    body = json.dumps(predict_body(["good " * 4000])).encode()
    limit = len(body) + 100
    with (
        running(bundle, max_waiting_bytes=limit, max_body_bytes=limit) as client,
        connected(client) as first,
    ):
        first.sendall(head(len(body)) + body[:-1])
        until(lambda: client.post("/predict", content=body).status_code == 429)
        assert "PRELABEL_MAX_WAITING_BYTES" in client.post("/predict", content=body).text
        first.sendall(body[-1:])
        assert b" 200 " in first.recv(65536)
        until(lambda: client.post("/predict", content=body).status_code == 200)


def chunked(path: str, *parts: bytes) -> bytes:
    """The head of a request without Content-Length, and chunks of its body."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def test_large_chunked_bodies_leave_slots_to_single_tasks(bundle: Bundle) -> None:
    with running(bundle, max_requests=2) as client, connected(client) as first, connected(client) as second:
        for each in (first, second):
            each.sendall(chunked("/predict", b"[" * (LARGE_REQUEST_BYTES + 1)))
        (answered,), _, _ = select.select([first, second], [], [], 30)
        assert b" 429 " in answered.recv(65536)
        assert predict(client, ["good"]), "the other one holds its slot still"


@pytest.mark.parametrize(
    ("path", "options"), [("/setup", {}), ("/webhook", {}), ("/admin/reload", {"admin_token": "a" * 20})]
)
def test_control_requests_have_limits_of_their_own(
    bundle: Bundle, path: str, options: dict[str, Any]
) -> None:
    credentials = {"Authorization": f"Bearer {options['admin_token']}"} if options else {}
    with running(bundle, max_requests=1, **options) as client:
        too_large = client.post(path, content=b" " * (MAX_CONTROL_BODY + 1), headers=credentials)
        assert (too_large.status_code, f"{MAX_CONTROL_BODY} bytes" in too_large.text) == (413, True)
        with ExitStack() as stack:
            stalled = [stack.enter_context(connected(client)) for _ in range(CONTROL_REQUESTS)]
            lines = "".join(f"{name}: {value}\r\n" for name, value in credentials.items())
            for each in stalled:
                each.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: 9\r\n\r\n".encode())
            until(lambda: client.post(path, content=b"{", headers=credentials).status_code == 429)
            assert predict(client, ["good"]), "predictions have slots of their own"
        until(lambda: client.post(path, content=b"{", headers=credentials).status_code == 400)


def test_a_disconnected_client_holds_nothing_and_is_counted(bundle: Bundle) -> None:
    body = json.dumps(predict_body(["good film " * 200] * 10_000)).encode()
    with running(bundle, max_requests=1) as client:
        with connected(client) as leaving:
            leaving.sendall(head(len(body)) + body)
            until(lambda: client.get("/health").json()["waiting_rows"] > 0)
        until(lambda: client.get("/health").json()["waiting_rows"] == 0)
        until(lambda: client.post("/predict", json=predict_body(["bad"])).status_code == 200)
        (project,) = client.get("/").json()["projects"]
        assert "ClientLeft" in [error["error"] for error in project["last_errors"]]


def test_a_client_that_leaves_before_its_labeling_config_is_parsed_is_counted(bundle: Bundle) -> None:
    choices = "".join(f'<Choice value="choice number {number}"/>' for number in range(9_000))
    config = TUTORIAL_CONFIG.replace("</Choices>", f"{choices}</Choices>")
    body = json.dumps({"project": "7.1", "schema": config}).encode()
    with running(bundle) as client:
        with connected(client) as leaving:
            leaving.sendall(head(len(body), path="/setup") + body)
        until(lambda: client.get("/").json()["projects"] != [])
        (project,) = client.get("/").json()["projects"]
        assert [error["error"] for error in project["last_errors"]] == ["ClientLeft"]


def test_a_text_that_is_too_long_costs_its_task_alone(bundle: Bundle) -> None:
    with running(bundle, max_text=50) as client:
        answers = predict(client, ["good", "bad " * 20, "film"])
        assert [bool(answer) for answer in answers] == [True, False, True]
        assert answers[::2] == predict(client, ["good", "film"])
        refused = client.post("/predict", json=predict_body(["bad " * 20]))
        assert (refused.status_code, "PRELABEL_MAX_TEXT" in refused.text) == (413, True)


@pytest.mark.parametrize("sent", [(b"",), (b"POST /predict HT",), (head(0, "GET", "/health"), b"GET /hea")])
def test_a_head_that_does_not_end_is_given_up(bundle: Bundle, sent: tuple[bytes, ...]) -> None:
    with running(bundle, head_timeout=0.2) as client, connected(client) as slow:
        for part in sent[:-1]:
            slow.sendall(part)
            assert b" 200 " in slow.recv(65536)
        slow.sendall(sent[-1])
        all_of(slow)


CHUNKED = b"POST /setup HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "repeated", "answer"),
    [
        (b"GET /health", b"x", b"HTTP/1.1 431 "),
        (b"GET /health HTTP/1.1\r\nHost: x\r\na: ", b"x", b"HTTP/1.1 431 "),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"a:\r\n", b"HTTP/1.1 431 "),
        (head(0, "GET", "/health") + b"GET /health HTTP/1.1\r\nHost: x\r\n", b"a:\r\n", b""),
        (CHUNKED + b"1;", b"x", b""),
        (CHUNKED + b"1\r\n{\r\n0\r\n", b"a:\r\n", b""),
    ],
)
def test_a_head_that_is_too_large_closes_the_connection(
    bundle: Bundle, begin: bytes, repeated: bytes, answer: bytes
) -> None:
    """Also the headers after a chunked body, and what stands between its parts."""
    with running(bundle) as client, connected(client) as sending:
        received = b""
        with suppress(ConnectionError):  # the server closes while bytes still arrive
            # what follows something else in one read is not counted; where a response is due, all of it is
            # read, because a connection that is closed with unread bytes loses what was written
            size = MAX_HEAD if answer else 2 * MAX_HEAD
            sending.sendall(begin + repeated * (size // len(repeated)))
            while part := sending.recv(65_536):
                received += part
        assert received.startswith(answer)


def test_a_head_within_the_limit_and_a_body_beyond_it_are_read(bundle: Bundle) -> None:
    with running(bundle) as client:
        large = {"a": "x" * (MAX_HEAD - 1_000)}
        assert client.get("/health", headers=large).status_code == 200
        assert client.post("/setup", content=b" " * (3 * MAX_HEAD), headers=large).status_code == 400


def test_a_client_that_takes_nothing_is_given_up(bundle: Bundle) -> None:
    body = json.dumps(predict_body(["good film"] * 40_000)).encode()
    with running(bundle, read_timeout=1.0) as client, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((client.base_url.host, client.base_url.port or 80))
        mine = deaf.getsockname()[1]
        deaf.settimeout(60)
        deaf.sendall(head(len(body)) + body)

        def is_kept() -> bool:
            return any(
                each.raddr and each.raddr.port == mine for each in psutil.Process().net_connections("tcp")
            )

        until(is_kept)
        until(lambda: not is_kept())


def test_many_connections_are_taken_in_one_turn_of_the_event_loop() -> None:
    taken: list[asyncio.BaseTransport] = []

    class Taken(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            taken.append(transport)

    async def turns(clients: ExitStack) -> int:
        listening = uvicorn_protocol.listen(uvicorn_protocol.bind("127.0.0.1", 0))
        servers = [
            await asyncio.get_running_loop().create_server(Taken, sock=each, backlog=1000)
            for each in listening
        ]
        for _ in range(10 * uvicorn_protocol.ACCEPTS):
            clients.enter_context(socket.create_connection(listening[0].getsockname()))
        count = 0
        while len(taken) < 10 * uvicorn_protocol.ACCEPTS:
            await asyncio.sleep(0)
            count += 1
        for transport in taken:
            transport.close()
        for server in servers:
            server.close()
        await asyncio.gather(*(server.wait_closed() for server in servers))
        return count

    with ExitStack() as clients:
        assert uvloop.run(turns(clients)) < 5 * uvicorn_protocol.ACCEPTS
