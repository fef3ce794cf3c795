"""The HTTP contract, through a real uvicorn with httptools and uvloop."""

import concurrent.futures
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from export.cnn import Network
from server.bundle import Bundle
from server.engines import factory
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.models.tokenizer import Tokenizer
from tests.conftest import random_texts
from tests.serving import predict, running, set_up


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[httpx.Client]:
    with running(bundle) as client:
        yield client


def test_health_tells_what_serves(client: httpx.Client, bundle: Bundle) -> None:
    for path in ("/", "/health"):
        health = client.get(path).json()
        assert (
            health.items()
            >= {
                "status": "UP",
                "model_class": "SentimentCNN",
                "model_version": bundle.version,
                "engine": "tables",
                "device": "cpu",
            }.items()
        )


def test_health_tells_that_a_gpu_was_expected(
    client: httpx.Client, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this host has a GPU")
    assert client.get("/health").json()["degraded"] is False
    line = f'prelabel_degraded{{model="{bundle.path.name}"}}'
    assert f"{line} 0.0" in client.get("/metrics").text
    driver = tmp_path / "nvidiactl"
    driver.touch()
    monkeypatch.setattr(factory, "NVIDIA_DRIVER", driver)
    with running(bundle, device="auto") as degraded:
        health = degraded.get("/health").json()
        assert health.items() >= {"status": "UP", "device": "cpu", "degraded": True}.items()
        assert "prelabel[gpu]" in health["degraded_because"] or "NVIDIA driver" in health["degraded_because"]
        assert f"{line} 1.0" in degraded.get("/metrics").text
        assert degraded.get("/ready").status_code == 200
        assert predict(degraded, ["good"])[0]["result"]


@pytest.mark.parametrize("extra", [None, "text", {"a": 1}])
def test_setup_and_predict_and_versions_name_the_same_version(
    client: httpx.Client, bundle: Bundle, extra: Any
) -> None:
    body = {
        "project": "1.1",
        "schema": TUTORIAL_CONFIG,
        "hostname": "http://localhost:8080",
        "access_token": "secret",
        "extra_params": extra,
    }
    assert client.post("/setup", json=body).json() == {"model_version": bundle.version}
    assert predict(client, ["good"])[0]["model_version"] == bundle.version
    assert client.get("/versions").json() == {"versions": [bundle.version]}


def test_a_projects_extra_params_choose_its_score_and_with_it_the_version(
    client: httpx.Client, bundle: Bundle
) -> None:
    def version_of(project: str, extra: Any) -> str:
        return str(set_up(client, project=project, extra=extra).json()["model_version"])

    (default,) = predict(client, ["good film"])
    for extra in ({"score": "margin"}, '{"score": "margin"}'):
        assert version_of("7.1", extra) == f"{bundle.version}-margin"
        (answer,) = predict(client, ["good film"], project="7.1")
        assert answer["model_version"] == f"{bundle.version}-margin"
        assert answer["score"] == pytest.approx(2 * default["score"] - 1)
        assert answer["result"][0]["value"] == default["result"][0]["value"]
        assert predict(client, ["good film"], project="8.1") == [default]
        assert version_of("7.1", None) == bundle.version
        assert predict(client, ["good film"], project="7.1") == [default]
    refused = client.post(
        "/setup", json={"project": "7.1", "schema": TUTORIAL_CONFIG, "extra_params": {"score": "certainty"}}
    )
    assert (
        refused.status_code,
        "extra_params: score: expected one of confidence, margin, entropy" in refused.text,
    ) == (400, True)


def test_the_score_of_the_server_is_a_setting(bundle: Bundle) -> None:
    with running(bundle, score="entropy") as client:
        assert client.get("/health").json()["model_version"] == f"{bundle.version}-entropy"
        assert predict(client, ["good"])[0]["model_version"] == f"{bundle.version}-entropy"


def test_every_task_gets_the_networks_answer_at_its_index(
    client: httpx.Client, bundle: Bundle, network: Network
) -> None:
    texts = random_texts(200)
    expected = network.cnn.predict([Tokenizer.of(bundle).encode(text).tolist() for text in texts]).numpy()
    together = predict(client, texts)
    alone = [predict(client, [text])[0] for text in texts[:50]]
    for answers in (together, alone):
        for answer, probabilities in zip(answers, expected, strict=False):
            assert abs(answer["score"] - probabilities.max()) <= 1e-6
            assert answer["result"][0]["value"]["choices"] == [bundle.labels[int(probabilities.argmax())]]


def test_the_tutorials_answers_together_and_one_by_one(
    golden: list[dict[str, Any]], oracle_bundle: Bundle
) -> None:
    texts = [entry["text"] for entry in golden]
    with running(oracle_bundle) as client:
        for answers in (predict(client, texts), [predict(client, [text])[0] for text in texts]):
            for answer, entry in zip(answers, golden, strict=True):
                assert abs(answer["score"] - max(entry["probabilities"])) <= 1e-5
                assert answer["result"][0]["value"]["choices"] == [
                    oracle_bundle.labels[entry["predicted_class"]]
                ]


def test_torchscript_serves_the_same(client: httpx.Client, bundle: Bundle) -> None:
    texts = random_texts(30)
    with running(bundle, engine="torchscript") as other:
        assert other.get("/health").json()["engine"] == "torchscript"
        for mine, theirs in zip(predict(client, texts), predict(other, texts), strict=True):
            assert abs(mine["score"] - theirs["score"]) <= 1e-5
            assert mine["result"] == theirs["result"]


def test_many_clients_at_once_each_get_their_own_answers(client: httpx.Client) -> None:
    texts = random_texts(64)
    expected = predict(client, texts)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda text: predict(client, [text])[0], texts))
    for answer, known in zip(answers, expected, strict=True):
        assert abs(answer["score"] - known["score"]) <= 1e-6
        assert answer["result"] == known["result"]


def test_a_task_without_usable_text_gets_an_empty_result_at_its_index(
    client: httpx.Client, bundle: Bundle
) -> None:
    tasks: list[Any] = [
        {"data": {"review": "good"}},
        {"data": {}},
        {"data": {"review": None}},
        {"data": {"review": {}}},
        {},
        7,
        None,
    ]
    tasks += [
        {"data": {"review": 10}},
        {"data": {"review": ["good", 3]}},
        {"data": {"review": ""}},
        {"data": {"review": "bad"}},
    ]
    answer = client.post("/predict", json={"tasks": tasks, "label_config": TUTORIAL_CONFIG}).json()["results"]
    assert [bool(each["result"]) for each in answer] == [True] + [False] * 6 + [True] * 4
    assert all(each["model_version"] == bundle.version and 0 <= each["score"] <= 1 for each in answer)
    assert client.post("/predict", json={"tasks": [], "label_config": TUTORIAL_CONFIG}).json() == {
        "results": []
    }


def test_a_field_that_no_task_has_is_named_until_a_task_has_it(bundle: Bundle) -> None:
    def reason(client: httpx.Client, *fields: str) -> Any:
        tasks = [{"data": {field: "good"}} for field in fields]
        client.post("/predict", json={"tasks": tasks, "label_config": TUTORIAL_CONFIG, "project": "7.1"})
        [project] = client.get("/").json()["projects"]
        return project["empty_because"]

    with running(bundle) as client:
        assert "no task of the last request has a value for $review" in reason(client, "body", "id")
        assert reason(client, "body", "review") is None


def test_the_field_comes_from_the_config_and_the_choices_keep_their_names(bundle: Bundle) -> None:
    config = (
        TUTORIAL_CONFIG.replace("$review", "$body")
        .replace('"Positive"', '"Daumen hoch"')
        .replace('"Negative"', '"Daumen runter"')
    )
    with running(bundle, label_map="Negative=Daumen runter,Positive=Daumen hoch") as client:
        answer = client.post(
            "/predict", json={"tasks": [{"data": {"body": "good", "review": 1}}], "label_config": config}
        ).json()
    assert answer["results"][0]["result"][0]["value"]["choices"][0].startswith("Daumen")


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/predict", b"not json", 400, "not JSON"),
        ("/predict", b"[]", 400, "JSON object, found a list"),
        ("/predict", b"{}", 400, "tasks: expected a list of tasks, found nothing"),
        ("/predict", b'{"tasks": "x"}', 400, "found text"),
        ("/predict", b'{"tasks": []}', 400, "label_config"),
        ("/setup", b"{}", 400, "schema"),
        (
            "/setup",
            json.dumps({"schema": TUTORIAL_CONFIG.replace("Positive", "Good")}).encode(),
            422,
            '"Positive"',
        ),
        (
            "/predict",
            json.dumps({"tasks": [{}], "label_config": "<View/>"}).encode(),
            422,
            "no <Choices> tag",
        ),
        (
            "/setup",
            json.dumps({"schema": TUTORIAL_CONFIG + " " * 500_000}).encode(),
            413,
            "a labeling config of 500",
        ),
        ("/setup", json.dumps({"schema": "<View>" * 80_000}).encode(), 422, "cannot be read"),
        ("/webhook", b"x", 400, "not JSON"),
        ("/nowhere", b"", 404, "POST /nowhere: no such path; GET /openapi.json lists all."),
        ("/health", b"", 405, "POST /health: this path takes GET"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_plain_words(
    client: httpx.Client, path: str, body: bytes, status: int, detail: str
) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert detail in answer.json()["detail"]
    assert answer.json()["error"] != "HTTPException"
    assert "Traceback" not in answer.text


def test_lone_surrogates_and_huge_numbers_are_taken_as_label_studio_sends_them(client: httpx.Client) -> None:
    body = (
        b'{"tasks": [{"id": 123456789012345678901234567890, "data": {"review": "good \\ud800"}}], '
        b'"label_config": %s}' % json.dumps(TUTORIAL_CONFIG).encode()
    )
    assert len(client.post("/predict", content=body).json()["results"]) == 1


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "SOMETHING_NEW", None])
def test_webhooks_are_answered_at_once(client: httpx.Client, action: str | None) -> None:
    assert client.post("/webhook", json={"action": action}).is_success


def test_start_training_gets_an_object_with_a_job(client: httpx.Client) -> None:
    assert "job" in client.post("/webhook", json={"action": "START_TRAINING", "project": {}}).json()


def test_errors_for_exceeded_limits_name_the_setting(bundle: Bundle) -> None:
    with running(bundle, max_tasks=2, max_waiting_rows=2, max_body_bytes=2000) as client:
        body = {"tasks": [{"data": {"review": "good"}}] * 3, "label_config": TUTORIAL_CONFIG}
        refused = client.post("/predict", json=body)
        assert (refused.status_code, "PRELABEL_MAX_TASKS" in refused.text) == (413, True)
        two_texts = TUTORIAL_CONFIG.replace(
            "</View>",
            '<Text name="other" value="$other"/><Choices name="c" toName="other">'
            '<Choice value="Positive"/><Choice value="Negative"/></Choices></View>',
        )
        tasks = [{"data": {"review": "good", "other": "bad"}}] * 2
        refused = client.post("/predict", json={"tasks": tasks, "label_config": two_texts})
        assert (refused.status_code, "PRELABEL_MAX_WAITING_ROWS" in refused.text) == (413, True)
        assert "retry-after" not in refused.headers
        refused = client.post("/predict", json=body | {"padding": "x" * 2000})
        assert (refused.status_code, "PRELABEL_MAX_BODY_BYTES" in refused.text) == (413, True)
        assert len(predict(client, ["good"])) == 1


def test_a_request_that_takes_too_long_is_given_up_with_its_texts(bundle: Bundle) -> None:
    with running(bundle, request_timeout=1e-6, call_timeout=1e-6) as client:
        body = {"tasks": [{"data": {"review": "good"}}] * 1000, "label_config": TUTORIAL_CONFIG}
        refused = client.post("/predict", json=body)
        assert (refused.status_code, "PRELABEL_REQUEST_TIMEOUT" in refused.text) == (503, True)
        assert client.get("/health").json()["waiting_rows"] == 0


def test_server_timing_has_the_stages(client: httpx.Client) -> None:
    timing = client.post(
        "/predict", json={"tasks": [{"data": {"review": "x"}}], "label_config": TUTORIAL_CONFIG}
    ).headers["server-timing"]
    assert [part.split(";")[0] for part in timing.split(", ")] == [
        "parse",
        "tokenize",
        "queue",
        "engine",
        "results",
        "write",
        "total",
    ]


def test_health_is_answered_while_5000_reviews_are_in_work(client: httpx.Client) -> None:
    """States, not speed: many health checks must come through before the big request is answered."""
    texts = random_texts(500) * 10
    answered = threading.Event()
    checks = 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        big = pool.submit(predict, client, texts)
        big.add_done_callback(lambda _: answered.set())
        while not answered.is_set():
            assert client.get("/health").json()["status"] == "UP"
            checks += 1
        assert len(big.result()) == len(texts)
    assert checks >= 5
