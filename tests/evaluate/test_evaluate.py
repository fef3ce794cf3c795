"""`prelabel evaluate`: metrics, groups, mistakes and pictures for a file with known labels."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from export.cnn import Network
from server.bundle import Bundle
from server.engines.base import Engine
from server.errors import BadInput, BadSetting
from server.evaluate.evaluate import MISTAKES, Evaluation, evaluate_file
from server.evaluate.plots import check_available
from server.evaluate.report import draw, show
from server.models.tokenizer import Tokenizer
from server.offline.classifier import Classifier
from tests.conftest import random_texts

TEXTS = random_texts(300, seed=4)


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
    return evaluate_file(source, classifier, text="review", label="sentiment", by=by)


def test_metrics_groups_and_mistakes(tmp_path: Path, classifier: Classifier, truth: list[str]) -> None:
    rows = [
        {"review": text, "sentiment": label, "kind": "odd" if i % 3 else "inverted"}
        for i, (text, label) in enumerate(zip(TEXTS, truth, strict=True))
    ]
    result = evaluate(write(tmp_path / "in.csv", rows), classifier, by="kind")
    assert (result.metrics.rows, result.metrics.right, result.left_out) == (300, 200, 0)
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
        write(tmp_path / "in.csv", renamed),
        classifier,
        text="review",
        label="sentiment",
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
        "tasks left out",
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
