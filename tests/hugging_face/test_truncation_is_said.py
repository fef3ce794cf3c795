"""Texts that are longer than a transformer reads: counted by the server and by the commands."""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import tritonclient.http as triton
from prometheus_client.parser import text_string_to_metric_families as families_of

from server.annotate.background import StopRequest
from server.annotate.options import AnnotateOptions
from server.annotate.prediction_source import local_source
from server.annotate.run import AnnotateRun
from server.bundle import Bundle, read_bundle
from server.errors import BadInput
from server.label_studio.api_client import Api
from server.label_studio.labeling_config import read_plan
from server.label_studio.simple_config import simple_config
from server.offline.classifier import open_classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import predict_file
from server.offline.truncation import Truncation, truncation_sentence
from server.settings import load_settings
from tests.annotate import test_command as annotate
from tests.api.test_open_inference import request_of, tensor
from tests.cli.test_command_line import prelabel
from tests.serving import predict_body, running

LONG = "good film " * 100
TEXTS = [LONG, "good", None, LONG, ""]
KEPT = "the 64 tokens that the model reads; only their beginning counted"


@pytest.fixture(scope="module")
def config(bert: Bundle) -> str:
    return simple_config("$review", bert.labels, several=False)


@pytest.fixture(scope="module")
def client(bert: Bundle, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    other = Path(shutil.copytree(bert.path, tmp_path_factory.mktemp("copies") / "other"))
    with running(bert, read_bundle(other), bundle, ensemble="both=bert,other") as client:
        yield client


def counted(client: httpx.Client, model: str) -> dict[str, float]:
    """prelabel_truncated_texts_total, and what GET / has."""
    metrics = {
        sample.labels["model"]: sample.value
        for family in families_of(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "prelabel_truncated_texts_total"
    }
    projects = client.get(f"/{model}/").json()["projects"]
    return {"metric": metrics[model], "activity": sum(project["truncated"] for project in projects)}


@pytest.mark.parametrize("model", ["bert", "both"])
def test_predict_says_it_after_the_results_the_log_the_metrics_and_the_activity(
    client: httpx.Client, config: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted(client, model)
    with caplog.at_level(logging.INFO, "prelabel.request"):
        answer = client.post(f"/{model}/predict", json=predict_body(TEXTS, config)).json()
        short = client.post(f"/{model}/predict", json=predict_body(["good"], config)).json()
        after = counted(client, model)  # over the same connection: the lines before it are written by then
    assert list(answer) == ["results", "meta"]
    assert answer["meta"] == {"truncated": 2}
    assert [each.keys() for each in answer["results"]] == [{"result", "score", "model_version"}] * 5
    assert list(short) == ["results"]
    lines = [record.__dict__["fields"] for record in caplog.records]
    assert [line.get("truncated") for line in lines if line["route"] == "/predict"] == [2, None]
    assert after == {name: value + 2 for name, value in before.items()}


@pytest.mark.parametrize("model", ["bert", "both"])
def test_infer_says_it_in_the_parameters_of_the_answer(client: httpx.Client, model: str) -> None:
    before = counted(client, model)
    answer = client.post(f"/v2/models/{model}/infer", json=request_of([LONG] * 300 + ["good"])).json()
    assert answer["parameters"] == {"truncated": 300}
    assert answer["outputs"][0]["shape"] == [301, 3]
    assert "parameters" not in client.post(f"/v2/models/{model}/infer", json=request_of(["good"])).json()
    assert counted(client, model) == {name: value + 300 for name, value in before.items()}
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as outside:
        found = outside.infer(model, [tensor([LONG, "good"])])
    assert found.get_response()["parameters"] == {"truncated": 1}
    assert found.as_numpy("probabilities").shape == (2, 3)


def test_a_model_that_reads_all_of_a_text_says_nothing(client: httpx.Client) -> None:
    assert "parameters" not in client.post("/v2/models/tiny/infer", json=request_of([LONG])).json()
    assert list(client.post("/tiny/predict", json=predict_body([LONG])).json()) == ["results"]


def write_rows(path: Path, texts: list[str]) -> Path:
    rows = [{"review": text, "label": "bad"} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_predict_and_evaluate_say_it(bert: Bundle, config: str, tmp_path: Path) -> None:
    (tmp_path / "config.xml").write_text(config)
    source = write_rows(tmp_path / "in.jsonl", [LONG, "good", LONG])
    options = "--bundle", bert.path, "--device", "cpu", "--label-config", tmp_path / "config.xml"
    predicted = prelabel("predict", source, tmp_path / "out.json", *options)
    assert f"2 texts were longer than {KEPT}" in predicted.stderr, predicted.stderr
    columns = "--text", "review", "--label", "label"
    evaluated = prelabel("evaluate", source, *columns, *options[:4])
    assert f"2 texts were longer than {KEPT}" in evaluated.stderr, evaluated.stderr
    write_rows(source, ["good"])
    predicted = prelabel("predict", source, tmp_path / "out.json", *options)
    assert predicted.returncode == 0, predicted.stderr
    assert "longer" not in predicted.stderr


@pytest.fixture
def labeler(bert: Bundle, config: str) -> Iterator[Labeler]:
    with open_classifier(load_settings(bundle=bert.path, device="cpu")) as classifier:
        yield Labeler(classifier, read_plan(config, bert.labels, {}))


def test_a_resumed_run_counts_what_was_done_before(labeler: Labeler, tmp_path: Path) -> None:
    chunk = 2048
    source = write_rows(tmp_path / "in.jsonl", [LONG, *["good"] * (chunk - 1), LONG])
    stopped = 0

    def stop(rows: int, _: int) -> None:
        nonlocal stopped
        stopped = rows
        raise BadInput("killed")

    out = tmp_path / "out.jsonl"
    with pytest.raises(BadInput, match="killed"):
        predict_file(source, out, labeler, on_progress=stop)
    assert stopped == chunk
    done = predict_file(source, out, labeler, resume=True)
    assert (done.rows, done.truncated) == (chunk + 1, 2)


class OfLongTexts(annotate.World):
    """Every task has a text that is truncated, and its ML backend says so."""

    def respond(self, name: str, query: dict[str, list[str]], body: Any) -> Any:
        found = super().respond(name, query, body)
        if name == "tasks":
            found["tasks"] = [task | {"data": {"review": LONG}} for task in found["tasks"]]
        return found | {"meta": {"truncated": len(body["tasks"])}} if name == "predict" else found


def test_annotate_says_it_for_the_model_here(labeler: Labeler) -> None:
    with annotate.running(OfLongTexts(3)) as world:
        run = AnnotateRun(
            Api(world.url, "legacy"), AnnotateOptions(7), stop=StopRequest(), on_progress=lambda _: None
        )
        run.run(lambda *_: replace(local_source(labeler), batch=2))
    assert run.result is not None
    assert run.result.truncation == truncation_sentence(3, Truncation(64, "beginning"))


def test_annotate_says_it_for_an_ml_backend() -> None:
    with annotate.running(OfLongTexts(700)) as world, annotate.annotating(world) as process:
        output, errors = process.communicate(timeout=annotate.SECONDS)
    assert process.returncode == 0, errors
    assert "700 texts were longer than the model reads; only their beginning or end counted" in output


def test_the_sentence() -> None:
    assert truncation_sentence(1, Truncation(256, "end")) == (
        "1 text was longer than the 256 tokens that the model reads; only its end counted (export with "
        "--long-texts windows to read all of it)."
    )
    assert truncation_sentence(1200, Truncation(256, "beginning")).startswith("1,200 texts were longer")


def test_what_of_a_text_counts(bert: Bundle, bundle: Bundle) -> None:
    assert Truncation.of(bundle) is None
    assert Truncation.of(bert) == Truncation(64, "beginning")
