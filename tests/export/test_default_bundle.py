"""The default bundle: its predictions and its size, and that its card agrees with its manifest."""

import json
from pathlib import Path

import pytest

from server.bundle import Bundle, read_bundle
from server.engines.factory import open_engine
from server.evaluate.evaluate import evaluate_file
from server.offline.classifier import Classifier
from server.offline.labelled import LabelledSource, open_labelled
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def default() -> Bundle:
    return read_bundle(ROOT / "artifacts" / "imdb-cnn")


def test_it_distinguishes_good_from_bad(default: Bundle) -> None:
    texts = [
        "A wonderful film, beautifully acted and moving from start to end.",
        "Terrible. A boring plot, awful acting and a waste of time.",
    ]
    with Classifier(default, open_engine(default, device="cpu"), threads=1) as classifier:
        answers = classifier.probabilities(classifier.encode(texts))
    assert [default.labels[int(answer.argmax())] for answer in answers] == ["Positive", "Negative"]


def test_every_file_is_small_enough_for_git(default: Bundle) -> None:
    assert all(path.stat().st_size < 20_000_000 for path in default.path.iterdir())


def test_the_card_agrees_with_the_manifest(default: Bundle) -> None:
    card = (default.path / "README.md").read_text("utf-8")
    metrics = default.manifest.metrics
    assert default.version in card
    assert f"({default.manifest.temperature:.3f})" in card
    for part in ("test", "held_out"):
        figures = metrics[part]
        low, high = figures["interval_95"]
        for figure in (
            f"{figures['accuracy']:.4f}",
            f"({low:.4f} to {high:.4f})",
            f"{figures['log_loss']:.4f}",
            f"{figures['calibration_error']:.4f}",
        ):
            assert figure in card, f"{part}: {figure}"
    for picture in ("reliability.png", "accuracy-by-length.png", "learning-curve.png"):
        assert f"]({picture})" in card
        assert (default.path / picture).exists()


def test_float16_costs_less_than_a_ten_thousandth(default: Bundle) -> None:
    metrics = default.manifest.metrics
    assert abs(metrics["test"]["accuracy"] - metrics["test_before_float16"]["accuracy"]) < 1e-4


def test_the_cards_table_of_weaknesses(default: Bundle) -> None:
    card = (default.path / "README.md").read_text("utf-8")
    with Classifier(default, open_engine(default, device="cpu"), threads=1) as classifier:
        result = evaluate_file(LabelledSource(ROOT / "benchmarks" / "probes.csv"), classifier, by="kind")
    for kind, (right, rows) in result.by_group.items():
        assert f"| {kind} | {rows} | {right / rows:.4f} (" in card


def test_the_tutorials_labelled_reviews(default: Bundle, shared: Path, tmp_path: Path) -> None:
    """A hundred reviews through `evaluate`, as a table and as an export of Label Studio: the same metrics."""
    reviews = shared / "tutorial" / "IMDB_train_labeled_100.csv"
    with Classifier(default, open_engine(default, device="cpu"), threads=2) as classifier:
        table = evaluate_file(LabelledSource(reviews), classifier)
        tasks = []
        with open_labelled(LabelledSource(reviews)) as examples:
            for example in examples:
                region = {
                    "from_name": "mood",
                    "to_name": "text",
                    "type": "choices",
                    "value": {"choices": [example.label]},
                }
                tasks.append(
                    {
                        "id": example.number,
                        "data": {"review": example.text},
                        "annotations": [{"result": [region], "was_cancelled": False}],
                    }
                )
        (tmp_path / "export.json").write_text(json.dumps(tasks))
        export = evaluate_file(LabelledSource(tmp_path / "export.json", label="mood"), classifier)
    assert table.metrics.rows == export.metrics.rows == 100
    assert table.metrics.confusion.tolist() == export.metrics.confusion.tolist()
