"""The label efficiency on a small made-up data set, whose labels are its words."""

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import label_efficiency, results
from benchmarks.goals import goals
from benchmarks.label_efficiency import OURS, calibration_error_by_chance, drawn
from benchmarks.tables import TF_IDF
from server.offline.labelled import LabelledTexts, LeftOut

WORDS = {"bad": ["awful", "boring", "dull"], "good": ["lovely", "great", "brilliant"]}


def write(path: Path, rows: int) -> Path:
    numbers = random.Random(path.name)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for row in range(rows):
            label = list(WORDS)[row % 2]
            table.writerow([f"film {row} was {' '.join(numbers.choices(WORDS[label], k=3))}", label])
    return path


def test_each_number_of_labels_is_measured_with_both_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "measured")
    files = f"{write(tmp_path / 'train.csv', 40)},{write(tmp_path / 'test.csv', 30)},text,label"
    picture = tmp_path / "curves.png"
    words = ["--labels", "12,400", "--draws", "2", "--most-tests", "20", "--picture", str(picture)]
    monkeypatch.setattr("sys.argv", ["label_efficiency", f"films={files},30", *words])
    label_efficiency.main()

    found = results.read("label_efficiency")
    assert found is not None
    assert "films=train.csv,test.csv,text,label,30 --labels" in found["command"]
    (films,) = found["figures"]["sets"]
    assert (films["name"], films["test_texts"]) == ("films", 20)
    lines: list[dict[str, Any]] = films["lines"]
    assert [(line["labels"], line["draws"]) for line in lines] == [(12, 2), (30, 1)]
    for line in lines:
        assert line[OURS]["accuracy"] == 1
        assert line[OURS]["seconds"] > 0
        assert {"accuracy", "macro_f1", "calibration_error"} <= line[TF_IDF[0]].keys() & line[
            TF_IDF[1]
        ].keys()
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "| films | 12 | 1.000 |" in said
    assert "mean: ≥ +0.02; found" in said
    assert sum(goal.name.startswith("Training: ") and f"{goal.name}: " in said for goal in goals({})) == 4


def test_draws_are_stratified_and_differ_by_their_seed() -> None:
    labels: list[tuple[str, ...]] = [("a",) if row < 80 else ("b",) for row in range(100)]
    texts = LabelledTexts([str(row) for row in range(100)], labels, False, LeftOut())
    one, other = drawn(texts, 10, 0), drawn(texts, 10, 1)
    assert one.labels.count(("a",)) == other.labels.count(("a",)) == 8
    assert one.texts != other.texts
    assert drawn(texts, 100, 0) == texts


def test_chance_leaves_a_calibration_error_that_shrinks_with_more_texts() -> None:
    of_few, of_many = (
        calibration_error_by_chance(np.repeat([[0.7, 0.3], [0.4, 0.6]], texts, axis=0))
        for texts in (20, 20_000)
    )
    assert of_few > 0.05
    assert of_many < 0.01
