"""The Open Inference Protocol through a real server, called by tritonclient, an independent client."""

import concurrent.futures
import gzip
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from export.publish_checkpoint import export_bundle
from server.bundle import Bundle, read_bundle
from tests.conftest import ROOT, random_texts, tiny_network
from tests.launch.test_signals import until
from tests.serving import predict, running
from tests.transport.test_admission import connected, head

TEXTS = [*random_texts(300), "", "é 😀"]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(tiny_network(classes=2, seed=1), tmp_path_factory.mktemp("bundles") / "other")


@pytest.fixture(scope="module")
def client(bundle: Bundle, other: Bundle) -> Iterator[httpx.Client]:
    with running(bundle, other, ensemble="both=tiny,other:3,1", path_prefix="/ml") as client:
        yield client


@pytest.fixture
def outside(client: httpx.Client) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as outside:
        yield outside


def tensor(texts: list[str], shape: list[int] | None = None, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput("text", shape or [len(texts)], "BYTES")
    made.set_data_from_numpy(
        np.array(texts, dtype=np.object_).reshape(shape or [len(texts)]), binary_data=binary
    )
    return made


def request_of(texts: list[Any], **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}], **more}


def best(client: httpx.Client, texts: list[str], path: str = "") -> list[tuple[str, float]]:
    """What /predict answers: label and confidence."""
    return [
        (each["result"][0]["value"]["choices"][0], each["score"])
        for each in predict(client, texts, path=path)
    ]


def test_the_server_and_its_models_tell_of_themselves(
    outside: triton.InferenceServerClient, client: httpx.Client, bundle: Bundle
) -> None:
    assert outside.is_server_live()
    assert outside.is_server_ready()
    metadata = outside.get_server_metadata()
    assert (metadata["name"], metadata["extensions"]) == ("prelabel", ["binary_tensor_data"])
    versions = client.get("/health").json()["models"]
    for name, version in versions.items():
        assert outside.is_model_ready(name)
        assert outside.is_model_ready(name, version)
        model = outside.get_model_metadata(name, version)
        assert (model["name"], model["versions"]) == (name, [version])
        assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        assert model["outputs"][0] == {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": [-1, 2],
            "parameters": {"labels": list(bundle.labels)},
        }
        assert model["outputs"][1] == {"name": "label", "datatype": "BYTES", "shape": [-1]}
    assert [outside.get_model_metadata(name)["platform"] for name in ("tiny", "both")] == [
        "prelabel_tables",
        "ensemble",
    ]
    assert not outside.is_model_ready("absent")
    assert not outside.is_model_ready("tiny", "1")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", ["tiny", "other", "both"])
def test_texts_get_the_probabilities_that_predict_gives_them(
    outside: triton.InferenceServerClient, client: httpx.Client, bundle: Bundle, name: str, binary: bool
) -> None:
    outputs = [triton.InferRequestedOutput(each, binary_data=binary) for each in ("probabilities", "label")]
    expected = best(client, TEXTS, f"/{name}")
    for shape in ([len(TEXTS)], [len(TEXTS), 1]):
        answer = outside.infer(name, [tensor(TEXTS, shape, binary)], outputs=outputs, request_id="7")
        probabilities: npt.NDArray[np.float32] = answer.as_numpy("probabilities")
        labels = [each.decode() if isinstance(each, bytes) else each for each in answer.as_numpy("label")]
        assert probabilities.dtype == np.float32
        assert probabilities.shape == (len(TEXTS), 2)
        assert probabilities.max(axis=1).tolist() == [score for _, score in expected]
        assert (
            labels
            == [label for label, _ in expected]
            == [bundle.labels[index] for index in probabilities.argmax(axis=1)]
        )
        assert answer.get_response()["id"] == "7"
        assert answer.get_response()["model_version"] == client.get("/health").json()["models"][name]


def test_one_text_alone_and_none(outside: triton.InferenceServerClient, client: httpx.Client) -> None:
    for text in TEXTS[:20]:
        answer = outside.infer("tiny", [tensor([text])])
        ((label, score),) = best(client, [text])
        assert (answer.as_numpy("label").tolist(), answer.as_numpy("probabilities").max()) == (
            [label.encode()],
            np.float32(score),
        )
    for binary in (True, False):
        empty = outside.infer(
            "tiny",
            [tensor([], binary=binary)],
            outputs=[triton.InferRequestedOutput("probabilities", binary_data=binary)],
        )
        assert empty.as_numpy("probabilities").shape == (0, 2)
        assert empty.as_numpy("label") is None


@pytest.mark.parametrize("prefix", ["", "/ml"])
def test_by_hand(client: httpx.Client, prefix: str) -> None:
    version = client.get("/versions").json()["versions"][0]
    for path in ("/v2/models/tiny", f"/v2/models/tiny/versions/{version}"):
        answer = client.post(
            f"{prefix}{path}/infer", json=request_of(["good film"], id="x", parameters={"priority": 1})
        )
        assert answer.json().keys() == {"model_name", "model_version", "id", "outputs"}
        assert (answer.headers["content-type"], "inference-header-content-length" in answer.headers) == (
            "application/json",
            False,
        )
        stages = [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")]
        assert stages == ["parse", "tokenize", "queue", "engine", "write", "total"]
        assert client.get(f"{prefix}{path}/ready").json() == {"name": "tiny", "ready": True}
    assert client.get(f"{prefix}/v2/health/live").json() == {"live": True}
    assert client.get(f"{prefix}/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "words"),
    [
        ("POST", "/models/tiny/infer", b"x", {}, 400, "not JSON"),
        ("POST", "/models/tiny/infer", b"{}", {}, 400, "inputs: missing"),
        (
            "POST",
            "/models/tiny/infer",
            b"{}",
            {"inference-header-content-length": "3"},
            400,
            "Inference-Header-Content-Length",
        ),
        (
            "POST",
            "/models/tiny/infer",
            gzip.compress(b"{}", mtime=0),
            {"content-encoding": "gzip"},
            415,
            "without compression",
        ),
        (
            "POST",
            "/models/absent/infer",
            b"",
            {},
            404,
            "No model of that name is served; served are: tiny, other, both.",
        ),
        (
            "POST",
            "/models/tiny/versions/1/infer",
            b"",
            {},
            404,
            "not served in that version; its version is tiny-",
        ),
        ("GET", "/models/absent", b"", {}, 404, "No model of that name"),
        ("GET", "/models/absent/ready", b"", {}, 404, "No model of that name"),
        ("GET", "/models/tiny/infer", b"", {}, 405, "this path takes POST"),
        ("GET", "/nowhere", b"", {}, 404, "no such path"),
        ("GET", "/models", b"", {}, 404, "no such path"),
    ],
)
def test_errors_have_the_form_of_the_protocol(
    client: httpx.Client,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    words: str,
) -> None:
    for prefix in ("", "/ml"):
        answer = client.request(method, f"{prefix}/v2{path}", content=body, headers=headers)
        assert answer.status_code == status
        assert answer.json().keys() == {"error"}
        assert words in answer.json()["error"]
        assert answer.headers["x-request-id"]


def test_the_outside_client_understands_errors(outside: triton.InferenceServerClient) -> None:
    wrong = triton.InferInput("text", [1], "FP32")
    wrong.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    cases: list[tuple[str, triton.InferInput, dict[str, Any], str, str]] = [
        ("absent", tensor(["x"]), {}, "404", "No model of that name is served"),
        ("tiny", tensor(["x"]), {"model_version": "7"}, "404", "not served in that version"),
        ("tiny", wrong, {}, "400", "inputs[0].datatype: expected BYTES, found FP32"),
        ("tiny", tensor(["x", "y"], [1, 2]), {}, "400", "inputs[0].shape: expected [n] or [n, 1]"),
        ("tiny", tensor(["x"]), {"request_compression_algorithm": "gzip"}, "415", "without compression"),
        (
            "tiny",
            tensor(["x"]),
            {"outputs": [triton.InferRequestedOutput("logits")]},
            "400",
            "outputs: expected `probabilities` and `label`",
        ),
        (
            "tiny",
            tensor(["x"]),
            {"outputs": [triton.InferRequestedOutput("label", class_count=1)]},
            "400",
            "request the output `label`",
        ),
    ]
    for name, tensors, more, status, words in cases:
        with pytest.raises(InferenceServerException) as raised:
            outside.infer(name, [tensors], **more)
        assert (raised.value.status(), words in raised.value.message()) == (status, True), raised.value


def test_bounds_are_those_of_predict(bundle: Bundle) -> None:
    with running(bundle, max_tasks=2, max_body_bytes=2000, max_text=10) as client:

        def refused(texts: list[str], status: int, words: str) -> None:
            answer = client.post("/v2/models/tiny/infer", json=request_of(texts))
            assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text

        refused(["x"] * 3, 413, "PRELABEL_MAX_TASKS")
        refused(["x" * 2000], 413, "PRELABEL_MAX_BODY_BYTES")
        refused(["x" * 11], 413, "A text has 11 characters; the limit is 10 (PRELABEL_MAX_TEXT)")
        assert client.post("/v2/models/tiny/infer", json=request_of(["x"])).is_success
    with running(bundle, request_timeout=1e-6, call_timeout=1e-6) as client:
        answer = client.post("/v2/models/tiny/infer", json=request_of(["x"] * 1000))
        assert (answer.status_code, "PRELABEL_REQUEST_TIMEOUT" in answer.json()["error"]) == (503, True)
        assert client.get("/health").json()["waiting_rows"] == 0


def test_a_slot_is_taken_while_a_body_arrives_and_the_version_is_that_of_the_answer(
    bundle: Bundle, other: Bundle, tmp_path: Path
) -> None:
    """An incomplete body holds the only slot; when the rest arrives, another version
    serves.
    """
    live = Path(shutil.copytree(bundle.path, tmp_path / "live"))
    body = json.dumps(request_of(["good"])).encode()
    with (
        running(read_bundle(live), admin_token="boss", max_requests=1) as client,
        connected(client) as connection,
    ):
        connection.sendall(
            head(len(body), path=f"/v2/models/live/versions/{bundle.version}/infer") + body[:10]
        )
        until(lambda: client.post("/v2/models/live/infer", json=request_of(["x"])).status_code == 429)
        refused = client.post("/v2/models/live/infer", json=request_of(["x"]))
        assert "PRELABEL_MAX_REQUESTS" in refused.json()["error"]
        shutil.rmtree(live)
        shutil.copytree(other.path, live)
        assert client.post("/admin/reload", headers={"Authorization": "Bearer boss"}).is_success
        connection.sendall(body[10:])
        assert b" 404 " in connection.recv(65536)
        until(lambda: client.post("/v2/models/live/infer", json=request_of(["x"])).is_success)


def test_a_client_that_leaves_holds_nothing(bundle: Bundle) -> None:
    texts = ["good film " * 200] * 5_000
    body = json.dumps(request_of(texts)).encode()
    with running(bundle, max_requests=1) as client:
        with connected(client) as leaving:
            leaving.sendall(head(len(body), path="/v2/models/tiny/infer") + body)
            until(lambda: client.get("/health").json()["waiting_rows"] > 0)
        until(lambda: client.get("/health").json()["waiting_rows"] == 0)
        until(lambda: client.post("/v2/models/tiny/infer", json=request_of(["x"])).is_success)
        (project,) = client.get("/").json()["projects"]
        assert "ClientLeft" in [error["error"] for error in project["last_errors"]]


def test_each_kind_of_access_needs_its_own_credentials(bundle: Bundle) -> None:
    with running(bundle, api_token="one", admin_token="boss") as client:
        for method, path in (
            ("GET", "/v2"),
            ("GET", "/v2/models/tiny"),
            ("POST", "/v2/models/tiny/infer"),
            ("GET", "/v2/models/absent"),
        ):
            for token in ("", "boss"):
                refused = client.request(
                    method,
                    path,
                    json=request_of(["x"]),
                    headers={"Authorization": f"Bearer {token}"} if token else {},
                )
                assert (refused.status_code, refused.json().keys()) == (401, {"error"})
                assert refused.headers["www-authenticate"].startswith("Bearer")
            assert client.request(
                method, path, json=request_of(["x"]), headers={"Authorization": "Bearer one"}
            ).status_code in (200, 404)
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/tiny/ready"):
            assert client.get(path).is_success
            assert client.get(path, headers={"Authorization": "Bearer boss"}).status_code == 401


def test_requests_are_counted_as_predicts_are(client: httpx.Client) -> None:
    def unknown() -> dict[str, Any]:
        found: dict[str, Any] = next(
            (each for each in client.get("/other/").json()["projects"] if each["project"] == "unknown"),
            {"predicted": 0},
        )
        return found

    before = unknown()["predicted"]
    assert client.post("/v2/models/other/infer", json=request_of(["x", "y"])).is_success
    assert client.post("/v2/models/other/infer", json={}).status_code == 400
    assert unknown()["predicted"] == before + 2
    assert unknown()["last_errors"][-1]["reason"].startswith("inputs: missing")


def test_the_examples_of_the_documentation() -> None:
    page = (ROOT / "docs" / "protocols.md").read_text("utf-8")
    sent, received, code = (
        re.findall(pattern, page, re.DOTALL)[0]
        for pattern in (r"--data '(.+?)'", "```json\n(.+?)```", "```python\n(.+?)```")
    )
    with running(read_bundle(ROOT / "artifacts" / "imdb-cnn")) as client:
        answer, expected = client.post("/v2/models/imdb-cnn/infer", content=sent).json(), json.loads(received)
        found: dict[str, Any] = {}
        exec(code.replace("HOST:9090", f"{client.base_url.host}:{client.base_url.port}"), found)  # noqa: S102 - the page's own code
    probabilities = expected["outputs"][0].pop("data")
    np.testing.assert_allclose(answer["outputs"][0].pop("data"), probabilities, atol=1e-5)
    assert answer == expected
    np.testing.assert_allclose(found["answer"].as_numpy("probabilities").ravel(), probabilities, atol=1e-5)
    assert found["answer"].as_numpy("label").tolist() == [b"Positive", b"Negative"]


def test_many_clients_at_once_each_get_their_own_answers(client: httpx.Client) -> None:
    def ask(text: str) -> list[float]:
        found: list[float] = client.post("/v2/models/tiny/infer", json=request_of([text])).json()["outputs"][
            0
        ]["data"]
        return found

    together = client.post("/v2/models/tiny/infer", json=request_of(TEXTS)).json()["outputs"][0]["data"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        alone = list(pool.map(ask, TEXTS[:64]))
    np.testing.assert_allclose(np.array(alone).ravel(), together[:128], atol=1e-6)


def test_twenty_thousand_texts_in_one_request(client: httpx.Client) -> None:
    texts = TEXTS[:50] * 400
    outputs = client.post("/v2/models/tiny/infer", content=json.dumps(request_of(texts))).json()["outputs"]
    assert [output["shape"] for output in outputs] == [[20_000, 2], [20_000]]
    assert np.ptp(np.array(outputs[0]["data"]).reshape(400, 50, 2), axis=0).max() <= 1e-6
