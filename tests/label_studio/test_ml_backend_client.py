"""The HTTP client for ML backends: what it sends, and what it makes of responses."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest

from server.label_studio.credentials import BasicAuth
from server.label_studio.ml_backend_client import DETAIL_CHARACTERS, MlBackendClient, NoResponse


@dataclass
class Responding(httpx.BaseTransport):
    """An ML backend without a network."""

    handler: Callable[[httpx.Request], httpx.Response]
    requests: list[httpx.Request] = field(default_factory=list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return self.handler(request)


def client(response: httpx.Response, auth: BasicAuth | None = None) -> MlBackendClient:
    return MlBackendClient("http://backend/films", auth, 5.0, transport=Responding(lambda _: response))


def test_the_requests_are_those_of_label_studio() -> None:
    transport = Responding(lambda _: httpx.Response(200, json={}))
    with MlBackendClient("http://backend/films", BasicAuth("u", "p"), 5.0, transport=transport) as backend:
        backend.health()
        backend.setup("7.1", "<View/>", {"score": "margin"})
        backend.predict("7.1", "<View/>", [{"id": 1, "data": {"text": "half a character: \ud800"}}])
    health, setup, predict = transport.requests
    assert [f"{each.method} {each.url}" for each in transport.requests] == [
        "GET http://backend/films/health",
        "POST http://backend/films/setup",
        "POST http://backend/films/predict",
    ]
    assert {each.headers["Authorization"] for each in transport.requests} == {BasicAuth("u", "p").header}
    assert (health.content, setup.headers["Content-Type"]) == (b"", "application/json")
    assert json.loads(setup.content) == {
        "project": "7.1",
        "schema": "<View/>",
        "extra_params": {"score": "margin"},
    }
    assert json.loads(predict.content)["tasks"][0]["data"] == {"text": "half a character: \ud800"}


@pytest.mark.parametrize(
    ("response", "body", "detail", "problem"),
    [
        (httpx.Response(200, json={"status": "UP"}), {"status": "UP"}, None, "200 OK"),
        (httpx.Response(200, json=[1]), None, None, "200 OK"),
        (httpx.Response(200, text="hello"), None, None, "200 OK"),
        (httpx.Response(422, json={"detail": "no\n tag"}), {"detail": "no\n tag"}, "no tag", "no tag"),
        (httpx.Response(500, json={"detail": [1]}), {"detail": [1]}, None, "500 Internal Server Error"),
    ],
)
def test_a_response_is_its_status_and_its_json_object(
    response: httpx.Response, body: object, detail: str | None, problem: str
) -> None:
    with client(response) as backend:
        found = backend.health()
    assert (found.status, found.body, found.detail, found.problem) == (
        response.status_code,
        body,
        detail,
        problem,
    )
    assert (found.is_success, found.is_up) == (response.status_code == 200, body == {"status": "UP"})


def test_a_long_message_is_cut() -> None:
    with client(httpx.Response(500, json={"detail": "x" * 9999})) as backend:
        assert len(backend.health().detail or "") == DETAIL_CHARACTERS


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("Fri, 31 Dec 2027 23:59:59 GMT", None), ("", None)]
)
def test_retry_after_is_read_in_seconds(header: str, seconds: float | None) -> None:
    with client(httpx.Response(503, headers={"Retry-After": header})) as backend:
        assert backend.health().retry_after == seconds


def test_no_response_and_an_invalid_url_are_one_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with (
        MlBackendClient("http://backend", None, 5.0, transport=Responding(refuse)) as backend,
        pytest.raises(NoResponse, match="ConnectError"),
    ):
        backend.health()
    with (
        MlBackendClient("http://x:port", None, 5.0) as backend,
        pytest.raises(NoResponse, match="InvalidURL"),
    ):
        backend.health()
