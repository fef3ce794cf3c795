"""`prelabel train` on texts of one's own: features, folds, the choice, the report, the bundle."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.feature_extraction.text import TfidfVectorizer

from export.classifier import probabilities_of, publish_classifier
from export.training.baseline import fit_baseline
from export.training.blocks import NgramBlock
from export.training.by_evidence import train_by_evidence
from export.training.evidence import Calibration, Labelled, calibrate, cross_validate
from export.training.linear_head import balanced, fit_head
from export.training.options import TrainingOptions
from export.training.training_data import group_numbers, read_training_data
from server.bundle import LABELING_CONFIG, Bundle, read_bundle
from server.engines.factory import open_engine
from server.errors import BadInput, BadSetting
from server.label_studio.labeling_config import read_plan
from server.models.tokenizer import Tokenizer
from server.offline.labelled import LabelledSource, read_labelled
from tests.conftest import random_texts
from tests.encoders.fitted import fitted as fitted_classifier
from tests.encoders.fitted import published

QUIET = Console(file=io.StringIO())
AWKWARD = ("a, b", 'say "hi"', "<b>&", "a=b", "🙂")


def write(path: Path, texts: Sequence[str], labels: Sequence[str]) -> LabelledSource:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("body", "queue"), *zip(texts, labels, strict=True)])
    return LabelledSource(path, "body", "queue")


def tickets(count: int, labels: Sequence[str], seed: int = 1) -> tuple[list[str], list[str]]:
    """Texts of random words and one that names the label's class, most of the time."""
    random = np.random.default_rng(seed)
    texts, found = [], []
    for i in range(count):
        number = int(random.integers(len(labels)))
        shown = number if random.random() < 0.9 else int(random.integers(len(labels)))
        words = [f"w{word}" for word in random.integers(0, 50, 12)]
        words.insert(int(random.integers(13)), f"topic{shown}ish")
        texts.append(" ".join((*words, str(i))))
        found.append(labels[number])
    return texts, found


def train(source: LabelledSource, out: Path, **options: Any) -> tuple[Bundle, str]:
    """The bundle, and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    options = {"test": None, "torchscript": False} | options
    test = options.pop("test")
    bundle = train_by_evidence(source, test, out, TrainingOptions(), console, **options)
    assert isinstance(console.file, io.StringIO)
    return bundle, console.file.getvalue()


def targets_of(classes: Sequence[int], number: int) -> Any:
    targets = np.full((len(classes), number), -1, np.float32)
    targets[np.arange(len(classes)), classes] = 1
    return targets


def probabilities(bundle: Bundle, texts: Sequence[str]) -> Any:
    engine = open_engine(bundle, device="cpu")
    rows = Tokenizer.of(bundle).encode_all(texts)
    return np.concatenate([engine.run(row[None], np.array([len(row)], np.int32)) for row in rows])


@pytest.mark.parametrize(
    ("unit", "like"),
    [("words", {"token_pattern": r"(?u)\w+"}), ("characters", {"analyzer": "char_wb"})],
)
def test_features_are_those_of_scikit_learn(unit: Any, like: dict[str, Any]) -> None:
    texts = ["Ärger, über Groß!", "naïve café", "", "the the the cat", "日本語 text", *random_texts(30)]
    block = NgramBlock(texts, unit, 2, 3, weight=1.0)
    fitted, rows = np.arange(0, 35, 2), np.arange(35)
    sklearn = TfidfVectorizer(ngram_range=(2, 3), sublinear_tf=True, **like)
    sklearn.fit([texts[row] for row in fitted])
    expected = sklearn.transform(texts).toarray()
    found = block.fit(fitted)
    columns = [sklearn.vocabulary_[block.ngrams[column]] for column in found.columns]
    assert sorted(columns) == list(range(expected.shape[1]))
    np.testing.assert_allclose(found.features(rows).toarray(), expected[:, columns], atol=1e-6)


def test_equal_texts_are_in_one_fold_and_every_fold_has_every_label() -> None:
    classes = np.arange(60) % 3
    labelled = Labelled(
        targets_of(classes.tolist(), 3), np.arange(60) // 6 * 3 + np.arange(60) % 3, "softmax"
    )
    folds = labelled.folds(seed=1)
    assert sorted(np.concatenate([held_out for _, held_out in folds]).tolist()) == list(range(60))
    for fitted, held_out in folds:
        assert set(labelled.groups[fitted]).isdisjoint(labelled.groups[held_out])
        assert set(fitted.tolist()) | set(held_out.tolist()) == set(range(60))
    assert folds[0][1].tolist() == labelled.folds(seed=1)[0][1].tolist()


def test_texts_of_one_group_and_equal_texts_stay_together(tmp_path: Path) -> None:
    found = group_numbers(["a", "b", "c", "a", "d"], ["1", "1", "2", "3", "4"])
    assert [each == found[0] for each in found.tolist()] == [True, True, False, True, False]
    source = write(tmp_path / "in.csv", ["a", "b"], ["x", "y"])
    assert read_labelled(source, "queue").groups == ["x", "y"]
    with pytest.raises(
        BadInput, match=r'row 1 has no column "customer" \(--group\); its columns: body, queue'
    ):
        read_labelled(source, "customer")


def test_many_texts_have_one_fold_with_a_tenth_of_them_and_whole_groups() -> None:
    groups = np.arange(6_000) // 7
    labelled = Labelled(targets_of([row % 3 for row in range(6_000)], 3), groups, "softmax")
    ((fitted, held_out),) = labelled.folds(seed=1)
    assert len(held_out) == pytest.approx(600, abs=20)
    assert sorted([*fitted, *held_out]) == list(range(6_000))
    assert set(groups[fitted]).isdisjoint(groups[held_out])


@pytest.mark.parametrize(("texts", "folds"), [(1_000, 10), (1_001, 5)])
def test_few_texts_have_more_folds(texts: int, folds: int) -> None:
    labelled = Labelled(targets_of([row % 2 for row in range(texts)], 2), np.arange(texts), "softmax")
    assert len(labelled.folds(seed=1)) == folds


def test_cross_validation_measures_what_was_not_fitted() -> None:
    """Labels that have nothing to do with the texts can be learned by heart, but not be predicted."""
    texts = random_texts(120)
    classes = np.random.default_rng(0).integers(0, 2, 120)
    labelled = Labelled(targets_of(classes.tolist(), 2), np.arange(120), "softmax")
    block = NgramBlock(texts, "words", 1, 2, weight=1.0)
    everything = np.arange(120)
    by_heart = fit_head([block], labelled.targets, everything).logits(everything)
    assert (by_heart.argmax(axis=1) == classes).mean() > 0.8
    folds = labelled.folds(1)
    estimate = cross_validate(
        "", lambda rows: fit_head([block], labelled.targets, rows).logits, labelled, folds
    )
    assert estimate.figures["accuracy"] < 0.65
    assert estimate.figures["log_loss"] < 0.75  # calibrated: it does not claim to know


def test_labels_weigh_the_same_whatever_their_number() -> None:
    weights = balanced(targets_of([0, 0, 0, 1], 2))
    assert weights[:3].sum() == pytest.approx(weights[3])
    assert weights.sum() == pytest.approx(4)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_calibration_finds_the_temperature(head: Any) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(20_000, 3))
    probabilities = Calibration(0.5, 0.3 if head == "sigmoid" else 0.0).apply(logits, head)
    if head == "softmax":
        truth = (probabilities.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
        targets = targets_of(truth.tolist(), 3)
    else:
        targets = np.where(random.random(logits.shape) < probabilities, 1, -1).astype(np.float32)
    found = calibrate(logits, targets, head)
    assert found.temperature == pytest.approx(0.5, abs=0.05)
    assert found.shift == pytest.approx(0.3 if head == "sigmoid" else 0.0, abs=0.05)


def test_a_bundle_for_labels_of_any_kind(tmp_path: Path) -> None:
    texts, labels = tickets(150, AWKWARD)
    source = write(tmp_path / "in.csv", texts, labels)
    tested = write(tmp_path / "test.csv", *tickets(80, AWKWARD, seed=2))
    bundle, printed = train(source, tmp_path / "made", test=tested.path)
    assert bundle.labels == tuple(sorted(AWKWARD))
    figures = bundle.manifest.metrics
    assert figures["test"]["accuracy"] > 0.8
    assert figures["test"]["accuracy"] == pytest.approx(
        figures["cross_validation"]["n-grams"]["accuracy"], abs=0.1
    )
    for part in (
        "n-grams, kept",
        "TF-IDF words, logistic regression",
        "🙂",
        "80 test texts",
        "Learning curve",
    ):
        assert part in printed
    right = probabilities(bundle, ["xx topic4ish yy"]).argmax() == bundle.labels.index("🙂")
    assert right
    config = bundle.file(LABELING_CONFIG).read_text("utf-8")
    assert 'value="$body"' in config
    assert read_plan(config, bundle.labels, {}).bindings[0].control.values == bundle.labels
    card = bundle.file("README.md").read_text("utf-8")
    for part in (
        "# made",
        "**n-grams** (kept)",
        "TF-IDF words",
        "| \\<b\\>& |",
        "80 test texts",
        "Left out: none",
    ):
        assert part in card
    again, _ = train(source, tmp_path / "again" / "made")
    assert again.version == bundle.version


def test_texts_with_several_labels(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    texts, labels = [], []
    for i in range(200):
        chosen = sorted(random.choice(3, random.integers(1, 3), replace=False).tolist())
        texts.append(" ".join((f"filler{i}", *(f"about{number}" for number in chosen))))
        labels.append('{"choices": [' + ", ".join(f'"L{number}"' for number in chosen) + "]}")
    bundle, printed = train(write(tmp_path / "in.csv", texts, labels), tmp_path / "made")
    assert (bundle.manifest.head, bundle.labels) == ("sigmoid", ("L0", "L1", "L2"))
    both = probabilities(bundle, ["about0 and about2"])[0]
    assert (both > 0.5).tolist() == [True, False, True]
    assert bundle.manifest.metrics["cross_validation"]["n-grams"]["accuracy"] > 0.9
    assert 'choice="multiple"' in bundle.file(LABELING_CONFIG).read_text()
    assert "average precision" in printed


@pytest.mark.slow
def test_with_balance_more_texts_of_a_rare_label_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    labels = ["rare" if random.random() < 0.06 else "common" for _ in range(400)]
    vocabulary = random_texts(40)
    hidden = random.random(400) < 0.3
    texts = []
    for i, label in enumerate(labels):
        shows = label == "rare" and not hidden[i]
        texts.append(f"{vocabulary[20 + i % 20 if shows else random.integers(20)]} {i}")
    source = write(tmp_path / "in.csv", texts, labels)
    recall, loss = [], []
    for balance in (False, True):
        options = TrainingOptions(balance=balance)
        made = train_by_evidence(source, None, tmp_path / str(balance), options, QUIET, torchscript=False)
        figures = made.manifest.metrics["cross_validation"]["n-grams"]
        recall.append(figures["recall"][made.labels.index("rare")])
        loss.append(figures["log_loss"])
    assert recall[0] < recall[1]
    assert loss[0] < loss[1]  # the price


def test_a_head_on_the_encoder_of_another_bundle(tmp_path: Path, bundle: Bundle) -> None:
    texts = [f"{'good very' if i % 2 else 'bad not'} film w{i}" for i in range(60)]
    source = write(tmp_path / "in.csv", texts, ["b" if i % 2 else "a" for i in range(60)])
    made, printed = train(source, tmp_path / "made", start_from=bundle.path)
    assert set(made.manifest.metrics["cross_validation"]) == {
        "n-grams",
        "CNN of tiny",
        "CNN of tiny + n-grams",
        "TF-IDF words, logistic regression",
    }
    assert made.manifest.metrics["options"]["start_from"] == bundle.version
    assert "Parity" in printed


def test_a_bundle_with_the_same_labels_is_a_candidate_as_it_is(tmp_path: Path) -> None:
    texts = random_texts(60)
    classifier = fitted_classifier(["cnn"], 3)
    even = -classifier.encoders[0].logits(texts).mean(axis=0).astype(np.float32)
    labels = ("b", "c", "a")  # in another order than those of the file
    classifier = replace(classifier, labels=labels, head_bias=even)
    base = publish_classifier(classifier, tmp_path / "renamed", torchscript=False)
    own = probabilities(base, texts)
    source = write(tmp_path / "in.csv", texts, [labels[best] for best in own.argmax(axis=1)])
    made, _ = train(source, tmp_path / "made", start_from=base.path)
    assert made.manifest.metrics["chosen"] == "renamed as it is"
    logits = np.log(own[:, [labels.index(label) for label in made.labels]])
    sharper = made.manifest.temperature / base.manifest.temperature
    expected = probabilities_of(logits / sharper, "softmax")
    np.testing.assert_allclose(probabilities(made, texts), expected, atol=1e-5)


def test_a_head_on_a_cnn_with_learned_tokens(tmp_path: Path) -> None:
    base = published(tmp_path / "base", ["learned"])
    texts = [f"{'とても良い' if i % 2 else '退屈な'}映画でした{i}" for i in range(60)]
    source = write(tmp_path / "in.csv", texts, ["b" if i % 2 else "a" for i in range(60)])
    made, _ = train(source, tmp_path / "made", start_from=base.path)
    assert "CNN of base + n-grams" in made.manifest.metrics["cross_validation"]


@pytest.mark.parametrize(
    ("texts", "labels", "warning"),
    [
        (["a b", "c d", "e f", "g h"] * 3, ["x", "x", "x", "y"] * 3, "only 4 of 12 texts are different"),
        (
            random_texts(40),
            ["x", "y"] * 20,
            "not measurably better than always answering the same (0.500 right): the texts do not show what",
        ),
        (
            [f"w{i}" for i in range(12)],
            ["x"] * 11 + ["y"],
            "fewer than 5 texts cannot be learned or measured: y (1)",
        ),
        (
            ["Good  film", "good film", "bad", "worse", "best", "well"] * 2,
            ["x", "y", "x", "y", "x", "y"] * 2,
            "1 texts occur several times with different labels",
        ),
    ],
)
def test_the_report_says_why_a_model_is_no_good(
    tmp_path: Path, texts: list[str], labels: list[str], warning: str
) -> None:
    _, printed = train(write(tmp_path / "in.csv", texts, labels), tmp_path / "made")
    assert warning in printed


def test_texts_that_cannot_be_trained_on_are_an_error(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(BadInput, match=r"in.csv: one label only \(x\)"):
        train(write(tmp_path / "in.csv", ["a", "b"], ["x", "x"]), tmp_path / "made")
    with pytest.raises(BadInput, match="All labelled texts are the same;"):
        train(write(tmp_path / "in.csv", ["a", "a"], ["x", "y"]), tmp_path / "made")
    source = write(tmp_path / "in.csv", ["a b", "c d", "e", "f"], ["x", "y"] * 2)
    unseen = write(tmp_path / "test.csv", ["a"], ["z"])
    with pytest.raises(BadInput, match="labels that the training texts do not have: z"):
        train(source, tmp_path / "made", test=unseen.path)
    with pytest.raises(BadInput, match="a bundle exists there already"):
        train(source, bundle.path)
    assert not (tmp_path / "made").exists()


def test_options_of_another_encoder_are_an_error() -> None:
    only_cnn = {"start_from": None, "resume": False, "plots": None}
    for options, more, name in (
        (TrainingOptions(epochs=3), {}, "--epochs"),
        (TrainingOptions(ignore="x"), {}, "--ignore"),
        (TrainingOptions(tokenizer="learned"), {}, "--tokenizer"),
        (TrainingOptions(), {"resume": True}, "--resume"),
        (TrainingOptions(), {"plots": Path("x")}, "--plots"),
    ):
        with pytest.raises(BadSetting, match=f"{name} is for the CNN: add --encoder cnn"):
            options.check("auto", **(only_cnn | more))
        options.check("cnn", **(only_cnn | more))
    with pytest.raises(BadSetting, match="--start-from adds a candidate"):
        TrainingOptions().check("ngrams", start_from=Path("x"), resume=False, plots=None)


def test_the_baseline_answers_for_labels_that_it_did_not_see() -> None:
    texts = ["a good film", "a bad film", "!", ""]
    logits = fit_baseline(texts, targets_of([0, 1, 0, 2], 3), np.arange(3))(np.arange(4))
    assert logits.shape == (4, 3)
    assert (logits.argmax(axis=1)[:2] == [0, 1]).all()
    assert np.isfinite(logits).all()


def test_a_trained_bundle_is_read_again(tmp_path: Path) -> None:
    made, _ = train(write(tmp_path / "in.csv", *tickets(60, ("p", "q"))), tmp_path / "made")
    assert read_bundle(made.path).version == made.version
    assert [encoder.kind for encoder in made.manifest.encoders] == ["ngrams", "ngrams"]


def test_test_texts_with_several_labels_need_training_texts_with_several(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", *tickets(40, ("a", "b")))
    (tmp_path / "test.jsonl").write_text('{"body": "x", "queue": ["a", "b"]}\n')
    with pytest.raises(BadInput, match=r"test.jsonl: texts have several labels; the training texts have one"):
        train(source, tmp_path / "made", test=tmp_path / "test.jsonl")


def test_test_texts_that_were_trained_on_are_counted(tmp_path: Path) -> None:
    texts, labels = tickets(40, ("a", "b"))
    source = write(tmp_path / "in.csv", texts, labels)
    test = write(tmp_path / "test.csv", [texts[0].upper(), "another"], [labels[0], "a"])
    made, printed = train(source, tmp_path / "made", test=test.path)
    assert "1 of the 2 test texts are among the training texts" in printed
    assert "1 of the 2 test texts are among" in (made.path / "README.md").read_text("utf-8")


def test_texts_without_words_are_learned_by_their_characters(tmp_path: Path) -> None:
    texts = [f"{'🙂🚀' if i % 2 else '😡💔'} {'!' * (i % 7)}?" for i in range(60)]
    made, _ = train(write(tmp_path / "in.csv", texts, ["a", "b"] * 30), tmp_path / "made")
    assert [spec.files for spec in made.manifest.encoders] == [("characters.txt",)]
    assert probabilities(made, ["😡💔", "🙂🚀"]).argmax(axis=1).tolist() == [0, 1]


def test_texts_that_differ_in_case_or_white_space_are_equal(tmp_path: Path) -> None:
    """Otherwise texts with random labels, three times each, are estimated to be learned perfectly."""
    random = np.random.default_rng(1)
    texts = [f"w{a} w{b} w{c}" for a, b, c in random.integers(0, 999, (100, 3))]
    labels = [str(random.integers(2)) for _ in texts]
    copies = [*texts, *(text.upper() for text in texts), *(text.replace(" ", "  ") for text in texts)]
    made, _ = train(write(tmp_path / "in.csv", copies, labels * 3), tmp_path / "made")
    metrics = made.manifest.metrics
    assert metrics["cross_validation"][metrics["chosen"]]["accuracy"] < 0.7


def test_a_large_group_does_not_become_the_part_that_is_held_out() -> None:
    targets = targets_of([row % 2 for row in range(6_000)], 2)
    groups = np.minimum(np.arange(6_000), 2_400)  # one of six tenths
    folds = Labelled(targets, groups, "softmax").folds(seed=1)
    assert len(folds) == 1
    assert len(folds[0][1]) < 2_000
    two = Labelled(targets, (np.arange(6_000) > 0).astype(np.intp), "softmax").folds(seed=1)
    assert sorted(len(held_out) for _, held_out in two) == [1, 5_999]


@pytest.mark.parametrize("label", ["a\x01b", "a\ufffeb", "a\ud800", "x" * 100_000])
def test_labels_that_no_labeling_config_can_have_are_refused_before_the_fit(
    tmp_path: Path, label: str
) -> None:
    lines = [json.dumps({"body": f"text {i}", "queue": (label, "b")[i % 2]}) for i in range(20)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    with pytest.raises(BadInput, match=r"in.jsonl: Label Studio cannot have these labels; rename them"):
        train(LabelledSource(tmp_path / "in.jsonl", "body", "queue"), tmp_path / "made")


def test_balance_is_for_texts_with_one_label_each(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"body": "x", "queue": ["a", "b"]}\n{"body": "y", "queue": ["a"]}\n')
    source = LabelledSource(tmp_path / "in.jsonl", "body", "queue")
    with pytest.raises(BadInput, match="--balance is for texts with one each"):
        read_training_data(source, None, group=None, balance=True)
