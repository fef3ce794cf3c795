"""The simulated annotator on a small made-up data set, whose labels are its words."""

from pathlib import Path

import pytest

from benchmarks import active_learning, results
from benchmarks.active_learning import batches, figures_of_steps
from benchmarks.goals import goals
from benchmarks.tables import labels_needed, mean_accuracy
from tests.benchmarks.test_label_efficiency import write
from tests.conftest import ROOT


def test_each_order_has_a_curve_and_the_gate_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "measured")
    files = f"{write(tmp_path / 'train.csv', 120)},{write(tmp_path / 'test.csv', 40)},text,label"
    picture = tmp_path / "curves.png"
    monkeypatch.setattr(
        "sys.argv", ["active_learning", f"films={files},100", "--quick", "--picture", str(picture)]
    )
    active_learning.main()

    saved = results.read("active_learning")
    assert saved is not None
    assert "films=train.csv,test.csv,text,label,100 --quick" in saved["command"]
    (films,) = saved["figures"]["sets"]
    assert (films["name"], films["start"], films["tasks"], films["test_texts"]) == ("films", None, 90, 40)
    assert films["labels"] == [10, 20, 30, 40, 50, 60]
    for draws in films["accuracy"].values():
        ((*_, last),) = draws
        assert last == 1
    assert sum(films["rounds"].values()) == 3 * 6
    assert films["rounds"]["accepted"] >= 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "| films, diverse |" in said
    assert "Learning: annotations in the order diverse" in said


@pytest.mark.slow
def test_a_project_may_start_from_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "measured")
    for name, rows in (("train.csv", 60), ("test.csv", 20)):
        path = write(tmp_path / name, rows)
        path.write_text(path.read_text().replace(",bad", ",Negative").replace(",good", ",Positive"))
    files = f"{tmp_path / 'train.csv'},{tmp_path / 'test.csv'},text,label"
    start = f"films={ROOT / 'artifacts' / 'imdb-cnn'}"
    words = ["--quick", "--labels", "20", "--picture", str(tmp_path / "curves.png")]
    monkeypatch.setattr("sys.argv", ["active_learning", f"films={files}", "--start", start, *words])
    active_learning.main()

    saved = results.read("active_learning")
    assert saved is not None
    (films,) = saved["figures"]["sets"]
    assert films["start"] == "imdb-cnn"
    assert films["labels"][0] == 0
    assert len({draw[0] for draws in films["accuracy"].values() for draw in draws}) == 1
    assert "Learning: accuracy of a project that starts" in str(
        [goal.name for goal in goals({"active_learning": saved["figures"]}) if goal.met is not None]
    )


def test_rounds_wait_for_as_many_annotations_as_the_learner() -> None:
    assert list(batches(35)) == [10, 10, 10, 5]
    assert list(batches(500))[-3:] == [39, 43, 28]
    assert sum(batches(500)) == 500


def test_a_step_counts_as_a_loss_beyond_chance_for_all_steps_together() -> None:
    assert figures_of_steps([], 100)["p"] == 1
    noise = figures_of_steps([(10, 12), (30, 5), (0, 0)], 100)
    assert noise == {"number": 3, "worse": 1, "worst": -0.02, "p": 1.0}
    assert figures_of_steps([(0, 20), (30, 5)], 100)["p"] < 0.001


def test_the_labels_needed_are_those_of_the_first_mean_as_good_as_all_random_ones() -> None:
    draws = {"diverse": [[0.5, 0.8, 0.9], [0.5, 0.9, 0.9]], "random": [[0.5, 0.6, 0.84], [0.5, 0.6, 0.84]]}
    found = {"labels": [10, 20, 40], "accuracy": draws}
    assert labels_needed(found) == {"diverse": 20, "random": 40}
    assert mean_accuracy([10, 20, 40], [0.5, 0.8, 0.8]) == pytest.approx((6.5 + 16) / 30)
