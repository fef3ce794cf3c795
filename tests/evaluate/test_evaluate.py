"""`prelabel evaluate`: metrics, groups, mistakes and pictures for a file with known labels."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from export.cnn import Network
from server.bundle import Bundle, read_bundle
from server.engines.base import Engine
from server.engines.factory import open_engine
from server.errors import BadInput, BadLabelConfig, BadSetting
from server.evaluate.evaluate import MISTAKES, Evaluation, evaluate_file
from server.evaluate.plots import check_available
from server.evaluate.report import draw, show
from server.label_studio.labeling_config import read_plan
from server.models.tokenizer import Tokenizer
from server.offline.classifier import Classifier
from server.offline.labeler import Labeler
from server.offline.labelled import LabelledSource
from server.offline.predict_file import predict_file
from tests.conftest import ROOT, random_texts

TEXTS = [text if text.strip() else "the" for text in random_texts(300, seed=4)]


@pytest.fixture
def classifier(bundle: Bundle, onnx: Engine) -> Iterator[Classifier]:
    with Classifier(bundle, onnx, threads=2) as classifier:
        yield classifier


@pytest.fixture(scope="module")
def truth(bundle: Bundle, network: Network) -> list[str]:
    """The labels that the network predicts, every third inverted: two thirds are correct."""
    probabilities = network.cnn.predict([Tokenizer.of(bundle).encode(text).tolist() for text in TEXTS])
    return [bundle.labels[(int(row.argmax()) + (i % 3 == 0)) % 2] for i, row in enumerate(probabilities)]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def evaluate(source: Path, classifier: Classifier, by: str | None = None) -> Evaluation:
    return evaluate_file(LabelledSource(source), classifier, by=by)


def test_metrics_groups_and_mistakes(tmp_path: Path, classifier: Classifier, truth: list[str]) -> None:
    rows = [
        {"review": text, "sentiment": label, "kind": "odd" if i % 3 else "inverted"}
        for i, (text, label) in enumerate(zip(TEXTS, truth, strict=True))
    ]
    result = evaluate(write(tmp_path / "in.csv", rows), classifier, by="kind")
    assert (result.metrics.rows, result.metrics.right, result.left_out.total) == (300, 200, 0)
    assert result.by_group == {"odd": [200, 200], "inverted": [0, 100]}
    assert sum(rows for _, rows in result.by_length.values()) == 300
    assert sum(right for right, _ in result.by_length.values()) == 200
    assert len(result.mistakes) == MISTAKES
    assert [mistake.confidence for mistake in result.mistakes] == sorted(
        (mistake.confidence for mistake in result.mistakes), reverse=True
    )
    for mistake in result.mistakes:
        assert (mistake.number - 1) % 3 == 0
        assert mistake.text == TEXTS[mistake.number - 1]
        assert mistake.predicted != mistake.label == truth[mistake.number - 1]


def test_labels_match_ignoring_case_and_unknown_labels_are_errors(
    tmp_path: Path, classifier: Classifier, truth: list[str]
) -> None:
    rows = [{"review": text, "sentiment": label.upper()} for text, label in zip(TEXTS, truth, strict=True)]
    assert evaluate(write(tmp_path / "in.csv", rows), classifier).metrics.right == 200
    renamed = [
        {"review": row["review"], "sentiment": {"NEGATIVE": "bad", "POSITIVE": "good"}[row["sentiment"]]}
        for row in rows
    ]
    mapped = evaluate_file(
        LabelledSource(write(tmp_path / "in.csv", renamed)),
        classifier,
        label_map={"Negative": "bad", "Positive": "good"},
    )
    assert mapped.metrics.right == 200
    rows[2]["sentiment"] = "neutral"
    with pytest.raises(
        BadInput, match='row 3: the label "neutral" is not one of the model\'s: Negative, Positive'
    ):
        evaluate(write(tmp_path / "in.csv", rows), classifier)
    with pytest.raises(
        BadInput, match='no value in the column "kind" .--by.; its columns: review, sentiment'
    ):
        evaluate(write(tmp_path / "in.csv", rows[:2]), classifier, by="kind")


def test_pictures_without_matplotlib_name_the_pip_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadSetting, match="run pip install matplotlib, or omit --plots"):
        check_available()


HYPERTEXT = """<View><HyperText name="t" value="$html"/><Choices name="sentiment" toName="t">
<Choice value="good" alias="Positive"/><Choice value="bad" alias="negative"/></Choices></View>"""


def pages(shared: Path | None, folder: Path) -> Path:
    """An export of pages whose comments say the contrary of their texts: a real one, or one like it."""
    if shared is not None:
        return shared / "field" / "skew.json"
    words = {"Positive": "A wonderful, moving film. I loved it.", "Negative": "Dull, boring and awful."}
    tasks = [
        {
            "id": i,
            "data": {"html": f"<html><!-- {words[other] * 20} --><p>{words[label]} {i}</p></html>"},
            "annotations": [{"result": [{"from_name": "sentiment", "value": {"choices": [label]}}]}],
        }
        for i, (label, other) in enumerate([("Positive", "Negative"), ("Negative", "Positive")] * 10)
    ]
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


@pytest.mark.parametrize("real", [True, False])
def test_an_export_of_pages_is_measured_as_it_is_predicted(
    tmp_path: Path, real: bool, request: pytest.FixtureRequest
) -> None:
    source = pages(request.getfixturevalue("shared") if real else None, tmp_path)
    config = HYPERTEXT.replace("negative", "Negative")
    default = read_bundle(ROOT / "artifacts" / "imdb-cnn")
    with Classifier(default, open_engine(default, device="cpu"), threads=1) as classifier:
        result = evaluate_file(LabelledSource(source, label_config=config), classifier)
        plan = read_plan(config, default.labels, {})
        predict_file(source, tmp_path / "out.json", Labeler(classifier, plan))
        with pytest.raises(BadInput, match="holds a page with markup"):
            evaluate_file(LabelledSource(source, "html"), classifier)
    tasks, predicted = json.loads(source.read_text()), json.loads((tmp_path / "out.json").read_text())
    right = sum(
        task["annotations"][0]["result"][0]["value"] == each["predictions"][0]["result"][0]["value"]
        for task, each in zip(tasks, predicted, strict=True)
    )
    assert (result.metrics.rows, result.metrics.right) == (20, right) == (20, 20)


def test_with_a_labeling_config_labels_are_classes_as_the_server_fills_them(
    tmp_path: Path, classifier: Classifier, truth: list[str]
) -> None:
    stored = {"Positive": "good", "Negative": "Bad"}
    rows = [{"html": text, "mood": stored[label]} for text, label in zip(TEXTS, truth, strict=True)]
    source = LabelledSource(write(tmp_path / "in.csv", rows), label="mood", label_config=HYPERTEXT)
    label_map = {"Positive": "good", "Negative": "bad"}
    assert evaluate_file(source, classifier, label_map=label_map).metrics.right == 200
    taxonomy = """<View><Text name="t" value="$html"/><Taxonomy name="mood" toName="t"><Choice value="Film">
    <Choice value="Positive"/><Choice value="Negative"/></Choice></Taxonomy></View>"""
    rows = [{"html": text, "mood": f"Film/{label}"} for text, label in zip(TEXTS, truth, strict=True)]
    for config, text in ((taxonomy, None), (None, "html")):
        source = LabelledSource(write(tmp_path / "in.csv", rows), text, "mood", config)
        assert evaluate_file(source, classifier).metrics.right == 200
    other = taxonomy.replace("itive", "").replace("Negative", "Neg")
    with pytest.raises(BadLabelConfig, match="no choice for the model's labels"):
        evaluate_file(LabelledSource(source.path, label="mood", label_config=other), classifier)


def test_texts_with_several_labels(tmp_path: Path, classifier: Classifier, truth: list[str]) -> None:
    """Also where the file shows only late that texts may have several."""
    rows = [{"review": text, "sentiment": label} for text, label in zip(TEXTS, truth, strict=True)]
    rows += [{"review": TEXTS[0], "sentiment": json.dumps({"choices": ["Positive", "Negative"]})}]
    rows *= 1 + 2048 // len(rows)
    source = LabelledSource(write(tmp_path / "in.csv", rows))
    result = evaluate_file(source, classifier, threshold=0.4)
    assert result.several is not None
    assert (result.rows, result.metrics.rows) == (len(rows), 0)
    assert result.several.texts.sum() == len(rows) + len(rows) // 301
    assert sum(right for right, _ in result.by_length.values()) == result.several.right
    assert sum(count for _, count in result.by_length.values()) == len(rows)
    printed = io.StringIO()
    show(result, Console(file=printed, width=200), by=None)
    for part in ("micro F1", "0.4", "average precision", "exactly the right labels"):
        assert part in printed.getvalue()
    assert [path.name for path in draw(result, tmp_path / "plots", by=None)] == ["accuracy-by-length.png"]


def test_a_bundle_for_several_labels_is_measured_by_label(
    tmp_path: Path, bundle: Bundle, onnx: Engine, truth: list[str]
) -> None:
    rows = [{"review": text, "sentiment": label} for text, label in zip(TEXTS, truth, strict=True)]
    sigmoid = replace(bundle, manifest=bundle.manifest.model_copy(update={"head": "sigmoid"}))
    with Classifier(sigmoid, onnx, threads=2) as classifier:
        result = evaluate(write(tmp_path / "in.csv", rows), classifier)
    assert result.several is not None
    assert result.several.texts.sum() == 300


def test_the_tables_and_the_pictures(tmp_path: Path, classifier: Classifier, truth: list[str]) -> None:
    tasks = [
        {
            "data": {"review": f"[red] {text}"},
            "annotations": [{"result": [{"from_name": "sentiment", "value": {"choices": [label]}}]}],
        }
        for text, label in zip(TEXTS, truth, strict=True)
    ]
    (tmp_path / "export.json").write_text(json.dumps([*tasks, {"data": {"review": "x"}, "annotations": []}]))
    result = evaluate(tmp_path / "export.json", classifier)
    printed = io.StringIO()
    show(result, Console(file=printed, width=200), by=None)
    for part in (
        "0.6667",
        "left out: without an annotation or label",
        "expected calibration error",
        "texts per second",
        "Negative",
        "[red]",
        "up to 512",
    ):
        assert part in printed.getvalue()
    assert "most confident mistakes" in printed.getvalue()
    result.mistakes.clear()
    without = io.StringIO()
    show(result, Console(file=without, width=200), by=None)
    assert "mistakes" not in without.getvalue()
    pictures = draw(result, tmp_path / "plots", by=None)
    assert [path.name for path in pictures] == ["reliability.png", "accuracy-by-length.png"]
    again = draw(result, tmp_path / "again", by=None)
    for path, other in zip(pictures, again, strict=True):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.read_bytes() == other.read_bytes()
