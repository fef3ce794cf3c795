"""Tasks → predictions: a bad task costs only itself, and what the responses of an ML backend mean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from server.annotate.backend_source import BackendSource
from server.annotate.bisect_batch import BatchRefused
from server.annotate.prediction_source import NO_PREDICTION, PredictionSource
from server.errors import BackendFailed
from server.label_studio.ml_backend_client import MlBackendClient
from server.label_studio.predictions import Prediction


def test_a_bad_task_costs_only_its_own_prediction() -> None:
    def predict(tasks: list[dict[str, Any]]) -> list[Prediction | None]:
        if any(task["data"] == "bad" for task in tasks):
            raise BatchRefused("the model call failed")
        return [None if task["data"] == "none" else {"result": []} for task in tasks]

    tasks = [{"id": number, "data": {3: "bad", 5: "none"}.get(number, "good")} for number in range(10)]
    found, failed = PredictionSource("v", predict, 4).answers(tasks)
    assert list(found) == [0, 1, 2, 4, 6, 7, 8, 9]
    assert failed == {3: "the model call failed", 5: NO_PREDICTION}


@dataclass
class Responding(httpx.BaseTransport):
    """An ML backend without a network: `handler` makes its responses."""

    handler: Callable[[httpx.Request], httpx.Response]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self.handler(request)


def backend(handler: Callable[[httpx.Request], httpx.Response], pauses: list[float]) -> BackendSource:
    """A source whose ML backend responds with `handler`. The test closes its client."""
    client = MlBackendClient("http://backend", None, 5.0, transport=Responding(handler))
    return BackendSource(client, {}, pauses.append)


def test_a_busy_backend_is_tried_again_when_it_says() -> None:
    responses = [
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503),
        httpx.Response(200, json={"model_version": "v"}),
    ]
    pauses: list[float] = []
    source = backend(lambda request: responses.pop(0), pauses)
    with source.client:
        assert source.source(1, "<View/>").version == "v"
    assert pauses == [7.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(422, json={"detail": "It has no <Choices> tag."}), "It has no <Choices> tag"),
        (httpx.Response(500), "500"),
        (httpx.Response(401), "--basic-auth"),
        (httpx.Response(200, json={}), "model_version"),
        (httpx.Response(200, text="hello"), "not a JSON object"),
        (httpx.Response(503, json={"detail": "stopping"}), "stopping"),
    ],
)
def test_a_backend_that_cannot_be_set_up(answer: httpx.Response, words: str) -> None:
    source = backend(
        lambda request: httpx.Response(answer.status_code, content=answer.content, headers=answer.headers), []
    )
    with source.client, pytest.raises(BackendFailed, match=words):
        source.source(1, "<View/>")


def test_what_the_results_of_a_backend_mean() -> None:
    region = {"from_name": "a", "to_name": "b", "type": "choices", "value": {"choices": ["c"]}}
    results: list[Any] = [
        {"result": [region], "score": 0.5, "model_version": "v"},
        {},
        {"error": "no"},
        [],
        [{"result": []}, {"result": [region]}],
        None,
        {"result": [], "score": "high"},
    ]

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, json={"model_version": "v"} if request.url.path == "/setup" else {"results": results}
        )

    source = backend(handler, [])
    with source.client:
        tasks = [{"id": number, "data": {"text": "half a character: \ud800"}} for number in range(7)]
        found, failed = source.source(1, "<View/>").answers(tasks)
        results[0]["model_version"] = "w"
        with pytest.raises(BackendFailed, match="with w"):
            source.source(1, "<View/>").answers(tasks)
    assert found == {
        0: {"model_version": "v", "score": 0.5, "result": [region]},
        4: {"model_version": "v", "score": None, "result": []},
    }
    assert failed == dict.fromkeys((1, 2, 3, 5, 6), NO_PREDICTION)
