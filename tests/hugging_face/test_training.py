"""`prelabel train --sentence-encoder`: features, candidates, the choice, bundles, what a precision costs."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from export import publish_transformer
from export.classifier import FittedClassifier, publish_classifier
from export.encoders.transformer import FittedTransformer
from export.publish_transformer import TransformerOptions, reduced_transformer
from export.training import by_evidence
from export.training.blocks import TransformerBlock
from export.training.by_evidence import fit_without_publishing, train_by_evidence
from export.training.linear_head import fit_head
from export.training.options import TrainingOptions
from export.training.with_sentence_encoder import fitted_sentence_encoder
from server.bundle import Bundle, Head, read_bundle
from server.engines.base import pad
from server.engines.factory import open_engine
from server.errors import BadBundle, BadInput, BadSetting
from server.models.tokenizer import Tokenizer
from server.models.windows import Windows
from server.offline.labelled import LabelledSource, LabelledTexts, LeftOut, read_labelled
from server.offline.list_bundles import find_bundles, show
from tests.conftest import WORDS, random_texts
from tests.encoders.fitted import fitted_ngrams, published
from tests.export.test_by_evidence import targets_of, tickets, write
from tests.hugging_face.tiny_models import save_classifier, save_sentence_encoder

WEIGHTS = "TEST_SENTENCE_ENCODER"
"""An environment variable."""

TEXTS = [*random_texts(20), "", "日本語のテキスト", "good film " * 60, "bad " * 200]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence encoder that reads 48 tokens."""
    return save_sentence_encoder(tmp_path_factory.mktemp("sentences") / "tiny")


@pytest.fixture(scope="module")
def in_windows(directory: Path) -> FittedTransformer:
    return fitted_sentence_encoder(directory, TransformerOptions("windows"), torchscript=True)


@pytest.fixture(scope="module")
def network(directory: Path) -> FittedTransformer:
    return fitted_sentence_encoder(directory, TransformerOptions())


def train(
    source: LabelledSource,
    out: Path,
    directory: Path | None,
    *,
    test: Path | None = None,
    start_from: Path | None = None,
    torchscript: bool = False,
    **more: Any,
) -> tuple[Bundle, str]:
    """The bundle, and what was printed."""
    options = TrainingOptions(sentence_encoder=directory, **more)
    console = Console(file=io.StringIO(), width=200)
    how: Any = {"start_from": start_from, "torchscript": torchscript}
    bundle = train_by_evidence(source, test, out, options, console, **how)
    assert isinstance(console.file, io.StringIO)
    return bundle, console.file.getvalue()


def answers(bundle: Bundle, texts: list[str]) -> Any:
    """As the server gives them: probabilities float32[texts, classes]."""
    windows = Windows.of(Tokenizer.of(bundle).encode_all(texts), bundle.encoders)
    engine = open_engine(bundle, device="cpu")
    found = engine.run(*pad(windows.rows, max(map(len, windows.rows))))
    return windows.mean(found, bundle.manifest.head)


def only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The candidate of this name is the best, whatever its figures are."""
    monkeypatch.setattr(
        by_evidence,
        "best_of",
        lambda measured: next(each for each in measured if each.estimate.name == name),
    )


def combined(network: FittedTransformer, classes: int, head: Head) -> FittedClassifier:
    random = np.random.default_rng(0)
    weights = random.normal(size=(network.spec.features, classes)).astype(np.float32) * 4
    return FittedClassifier(
        tuple(f"L{i}" for i in range(classes)),
        [network.with_head(weights), fitted_ngrams("words", 1, 2, classes)],
        np.linspace(-0.5, 0.5, classes).astype(np.float32),
        head,
        words=WORDS[2:],
    )


@pytest.mark.parametrize("long_texts", ["truncate", "windows"])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_transformer_and_ngrams_under_one_head_are_proven(
    tmp_path: Path, in_windows: FittedTransformer, long_texts: Any, head: Head
) -> None:
    spec = in_windows.spec.model_copy(update={"long_texts": long_texts})
    classifier = combined(replace(in_windows, spec=spec), 3, head)
    bundle = publish_classifier(classifier, tmp_path / "both")
    assert [each["engine"] for each in bundle.manifest.parity["engines"]] == ["onnx", "torchscript"]
    assert bundle.manifest.parity["tolerance"] == 1e-4
    np.testing.assert_allclose(answers(bundle, TEXTS), classifier.probabilities(TEXTS), atol=1e-4)


def test_ngrams_do_not_weigh_in_the_mean_of_windows(tmp_path: Path, in_windows: FittedTransformer) -> None:
    """The last window of a text is shorter than the others: with the n-grams, of which each row has the same,
    it would count almost as much.
    """
    bundle = publish_classifier(combined(in_windows, 3, "softmax"), tmp_path / "both", torchscript=False)
    text = "good film " * 60
    windows = Windows.of(Tokenizer.of(bundle).encode_all([text]), bundle.encoders)
    assert windows.tokens is not None
    assert windows.tokens.tolist() == [len(row) for row in in_windows.windows_of([text]).rows]


def test_features_of_windows_are_means_by_tokens(in_windows: FittedTransformer) -> None:
    network = in_windows
    seen: list[int] = []

    @contextmanager
    def bar(tokens: int) -> Iterator[Any]:
        yield seen.append
        assert sum(seen) == tokens

    encoded = network.encoder.tokenizer().encode_all(TEXTS)
    block = TransformerBlock(network, TEXTS, bar)
    for text, found in zip(TEXTS, block.values, strict=True):
        rows = network.windows_of([text]).rows
        alone = np.stack([network.definition(row) for row in rows if network.definition])
        expected = np.average(alone, axis=0, weights=[len(row) for row in rows])
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert block.truncated == 0
    assert len(seen) > 1
    cut = replace(network, spec=network.spec.model_copy(update={"long_texts": "truncate"}))
    assert TransformerBlock(cut, TEXTS).truncated == sum(len(row) > 48 for row in encoded)


def test_a_head_gives_the_same_as_the_encoder_that_it_becomes(network: FittedTransformer) -> None:
    targets = targets_of([row % 3 for row in range(len(TEXTS))], 3)
    rows = np.arange(len(TEXTS))
    head = fit_head([TransformerBlock(network, TEXTS)], targets, rows)
    classifier = head.classifier(("a", "b", "c"), "softmax")
    np.testing.assert_allclose(classifier.logits(TEXTS), head.logits(rows), atol=1e-4)


@pytest.mark.parametrize("kept", ["sentence encoder", "sentence encoder + n-grams"])
def test_a_bundle_with_a_sentence_encoder(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    only(monkeypatch, kept)
    source = write(tmp_path / "in.csv", *tickets(60, ("a", "b")))
    tested = write(tmp_path / "test.csv", *tickets(30, ("a", "b"), seed=2))
    bundle, printed = train(source, tmp_path / "made", directory, test=tested.path, torchscript=True)
    metrics = bundle.manifest.metrics
    assert list(metrics["cross_validation"]) == [
        "n-grams",
        "sentence encoder",
        "sentence encoder + n-grams",
        "TF-IDF words, logistic regression",
    ]
    kinds = [spec.kind for spec in bundle.manifest.encoders]
    assert kinds == ["transformer", "ngrams", "ngrams"][: 1 if kept == "sentence encoder" else 3]
    assert "torchscript" in {each["engine"] for each in bundle.manifest.parity["engines"]}
    assert metrics["options"]["sentence_encoder"] == "tiny"
    described = {
        "architecture": "bert",
        "features": 32,
        "max_length": 48,
        "long_texts": "truncate",
        "precision": "float32",
        "texts_cut": 0,
    }
    assert metrics["transformer"] == described
    said = "Transformer: bert, 32 features, float32, 48 tokens at most."
    assert said in printed
    card = (bundle.path / "README.md").read_text("utf-8")
    assert said in card
    assert f"**{kept}** (kept)" in card
    rows = [row.strip() for row in tested.path.read_text().splitlines()[1:]]
    right = answers(bundle, [row.rsplit(",", 1)[0] for row in rows]).argmax(axis=1)
    found = np.mean([bundle.labels[best] == row[-1] for best, row in zip(right, rows, strict=True)])
    assert found == pytest.approx(metrics["test"]["accuracy"])
    listed = io.StringIO()
    show(find_bundles(tmp_path), None, Console(file=listed, width=150))
    assert ("transformer" if kept == "sentence encoder" else "transformer + ngrams") in listed.getvalue()


def test_texts_with_several_labels(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "sentence encoder + n-grams")
    random = np.random.default_rng(1)
    texts, labels = [], []
    for i in range(60):
        chosen = sorted(random.choice(3, random.integers(1, 3), replace=False).tolist())
        texts.append(" ".join((f"filler{i}", *(f"about{number}" for number in chosen))))
        labels.append('{"choices": [' + ", ".join(f'"L{number}"' for number in chosen) + "]}")
    source = write(tmp_path / "in.csv", texts, labels)
    bundle, printed = train(source, tmp_path / "made", directory, quantize="int8")
    assert bundle.manifest.head == "sigmoid"
    assert "int8: accuracy" in printed


def test_longer_texts_are_cut_and_counted_or_read_in_windows(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "sentence encoder")
    texts = [f"{'good' if i % 2 else 'bad'} film {i} " * (20 if i < 6 else 1) for i in range(40)]
    source = write(tmp_path / "in.csv", texts, ["b" if i % 2 else "a" for i in range(40)])
    cut, printed = train(source, tmp_path / "cut", directory, max_length=30)
    assert cut.manifest.metrics["transformer"]["texts_cut"] == 6
    said = "6 of 40 texts are longer, and cut; an encoder made with --long-texts windows reads them to"
    assert said in printed
    for kept in ("transformer of cut", "cut as it is"):
        only(monkeypatch, kept)
        _, printed = train(source, tmp_path / kept.replace(" ", "-"), None, start_from=cut.path)
        assert said in printed
    only(monkeypatch, "sentence encoder")
    assert cut.encoders[0].max_length == 30
    whole, printed = train(source, tmp_path / "whole", directory, long_texts="windows")
    assert whole.manifest.metrics["transformer"]["texts_cut"] == 0
    assert "Longer texts are read in windows." in printed


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_a_head_is_fitted_for_the_precision_of_its_bundle(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    only(monkeypatch, "sentence encoder")
    source = write(tmp_path / "in.csv", *tickets(60, ("a", "b")))
    bundle, printed = train(source, tmp_path / "made", directory, quantize=precision)
    assert [spec.precision for spec in bundle.manifest.encoders] == [precision]  # type: ignore[union-attr]
    cost = bundle.manifest.metrics["quantization"]
    assert (cost["precision"], cost["texts"]) == (precision, 60)
    kept = bundle.manifest.metrics["cross_validation"]["sentence encoder"]
    assert cost[f"accuracy_{precision}"] == kept["accuracy"]
    assert 0 < cost["max_difference"] < 0.5
    said = f"Each precision with a head of its own, on held-out texts: {precision}: accuracy"
    assert said in printed
    assert said in (bundle.path / "README.md").read_text("utf-8")
    assert bundle.manifest.parity["engines"][0]["max_difference"] < bundle.tolerance


def test_start_from_a_transformer_needs_no_torch(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "sentence encoder + n-grams")
    texts, labels = tickets(60, ("a", "b"))
    source = write(tmp_path / "in.csv", texts, labels)
    base, _ = train(source, tmp_path / "base", directory, quantize="int8")
    monkeypatch.setattr(by_evidence, "has_torch", lambda: False)
    monkeypatch.setattr(publish_transformer, "find_spec", lambda _: None)
    for kept, number in (("transformer of base", 1), ("transformer of base + n-grams", 3)):
        only(monkeypatch, kept)
        made, printed = train(source, tmp_path / f"made{number}", None, start_from=base.path)
        assert "reading the texts with the encoder" in printed
        assert len(made.encoders) == number
        assert made.manifest.encoders[0] == base.manifest.encoders[0]
        assert made.manifest.metrics["options"]["start_from"] == base.version
        assert set(made.manifest.metrics["cross_validation"]) >= {
            "n-grams",
            "transformer of base",
            "transformer of base + n-grams",
        }


def test_a_transformer_with_the_same_labels_is_a_candidate_as_it_is(
    tmp_path: Path, network: FittedTransformer
) -> None:
    texts = random_texts(60)
    weights = np.random.default_rng(1).normal(size=(32, 3)).astype(np.float32) * 20
    logits = network.quick_logits(texts, 1) * 0 + TransformerBlock(network, texts).values @ weights
    bias = -logits.mean(axis=0).astype(np.float32)
    labels = ("b", "c", "a")  # in another order than those of the file
    classifier = FittedClassifier(labels, [network.with_head(weights)], bias, words=WORDS[2:])
    base = publish_classifier(classifier, tmp_path / "renamed", torchscript=False)
    own = answers(base, texts)
    source = write(tmp_path / "in.csv", texts, [labels[best] for best in own.argmax(axis=1)])
    made, _ = train(source, tmp_path / "made", None, start_from=base.path)
    assert made.manifest.metrics["chosen"] == "renamed as it is"
    columns = [labels.index(label) for label in made.labels]
    assert (answers(made, texts).argmax(axis=1) == own[:, columns].argmax(axis=1)).all()
    assert read_bundle(made.path).version == made.version


def test_the_choice_is_by_evidence(network: FittedTransformer) -> None:
    """A random network is no match for n-grams where a word decides."""
    texts, labels = tickets(80, ("a", "b"))
    labelled = LabelledTexts(texts, [(label,) for label in labels], False, LeftOut())
    chosen = fit_without_publishing(labelled, ("a", "b"), 1, network)
    alone = fit_without_publishing(labelled, ("a", "b"), 1)
    tested, right = tickets(80, ("a", "b"), seed=2)
    accuracy = [
        np.mean([("a", "b")[best] == label for best, label in zip(found, right, strict=True)])
        for found in (each.quick_probabilities(tested).argmax(axis=1) for each in (chosen, alone))
    ]
    assert accuracy[0] >= accuracy[1] - 0.05


def test_options_that_contradict_each_other_are_an_error() -> None:
    more: Any = {"start_from": None, "resume": False, "plots": None}
    for encoder in ("ngrams", "cnn"):
        with pytest.raises(BadSetting, match="--sentence-encoder adds a candidate: it needs --encoder auto"):
            TrainingOptions(sentence_encoder=Path("x")).check(encoder, **more)
    for options, name in (
        (TrainingOptions(long_texts="windows"), "--long-texts"),
        (TrainingOptions(max_length=8), "--max-length"),
        (TrainingOptions(quantize="int8"), "--quantize"),
    ):
        with pytest.raises(
            BadSetting, match=f"{name} is for a sentence encoder: add --sentence-encoder DIR, or leave it out"
        ):
            options.check("auto", **more)
    TrainingOptions(sentence_encoder=Path("x"), quantize="int8").check("auto", **more)


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_without_the_libraries_the_extra_is_named(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setattr(publish_transformer, "find_spec", lambda name: None if name == library else "found")
    with pytest.raises(BadSetting, match=rf"needs {library}, .* install prelabel\[export,transformers\]"):
        train(write(tmp_path / "in.csv", ["a"], ["x"]), tmp_path / "made", directory)


def test_directories_and_bundles_that_cannot_be_used(tmp_path: Path, directory: Path) -> None:
    source = write(tmp_path / "in.csv", *tickets(40, ("a", "b")))
    with pytest.raises(BadInput, match="there is no such directory"):
        train(source, tmp_path / "made", tmp_path / "none")
    with pytest.raises(BadSetting, match="--max-length 99: the model reads at most 48 tokens"):
        train(source, tmp_path / "made", directory, max_length=99)
    base = published(tmp_path / "base", ["words"])
    with pytest.raises(BadBundle, match="the bundle has no CNN and no transformer"):
        train(source, tmp_path / "made", None, start_from=base.path)
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_trained_weights_know_words_that_the_labelled_texts_do_not_have(shared: Path, tmp_path: Path) -> None:
    """Software sections in English: 100 texts of eight labels."""
    encoder = os.environ.get(WEIGHTS)
    if not encoder:
        pytest.skip(f"{WEIGHTS} names no directory of a trained sentence encoder")
    files = shared / "sections" / "en-train.csv.xz", shared / "sections" / "en-test.csv.xz"
    texts, tested = (read_labelled(LabelledSource(file, "description", "section")) for file in files)
    every = len(texts.texts) // 100
    source = write(tmp_path / "in.csv", texts.texts[::every], [label for (label,) in texts.labels[::every]])
    held = write(tmp_path / "test.csv", tested.texts[::5], [label for (label,) in tested.labels[::5]])
    made, _ = train(source, tmp_path / "made", Path(encoder), quantize="int8", test=held.path)
    metrics = made.manifest.metrics
    alone = metrics["cross_validation"]["n-grams"]["accuracy"]
    assert metrics["cross_validation"][metrics["chosen"]]["accuracy"] > alone + 0.05
    assert metrics["test"]["accuracy"] > 0.68
    assert metrics["quantization"]["mean_difference"] < 0.02


def test_the_encoder_of_a_classifier_can_be_a_sentence_encoder(tmp_path: Path) -> None:
    """A directory without modules.json: the mean of the tokens."""
    network = fitted_sentence_encoder(save_classifier(tmp_path / "c"), TransformerOptions())
    assert TransformerBlock(network, ["good film"]).values.shape == (1, 32)
    assert reduced_transformer(network, "int8").spec.precision == "int8"
