"""Training on a few hundred made-up texts: it learns, resumes after a stop, and rejects unusable files."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from export.cnn import Network
from export.training.calibration import fit_temperature
from export.training.dataset import (
    Texts,
    TrainingSource,
    hold_out,
    read_data,
    read_texts,
)
from export.training.options import TrainingOptions
from export.training.pipeline import train_bundle, train_network
from export.training.tokens import build_vocabulary
from server.bundle import Bundle, read_bundle
from server.errors import BadInput, BadSetting
from server.evaluate.classification_metrics import ClassificationMetrics
from tests.conftest import ROOT

QUIET = Console(quiet=True)
OPTIONS = TrainingOptions(seed=5, epochs=4)


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("review", "sentiment"), *rows])
    return path


def made_up(
    count: int,
    seed: int,
    words: tuple[str, ...] = ("great", "awful"),
    labels: tuple[str, ...] = ("yes", "no"),
) -> list[tuple[str, str]]:
    """Texts of nine words, one of which tells the label."""
    random = np.random.default_rng(seed)
    filler = ["the", "film", "was", "with", "and", "a", "plot"]
    rows = []
    for i in range(count):
        text = [*random.choice(filler, 8), words[i % len(words)]]
        rows.append((" ".join([*random.permutation(text), str(i)]), labels[i % len(labels)]))
    return rows


def source(folder: Path) -> TrainingSource:
    return TrainingSource(
        write(folder / "train.csv", made_up(300, 1)),
        write(folder / "test.csv", made_up(60, 2)),
        "review",
        "sentiment",
    )


def train(
    source: TrainingSource, note: Path, options: TrainingOptions = OPTIONS, *, resume: bool = False
) -> Network:
    return train_network(source, options, QUIET, state=note, resume=resume)[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSource, Network]:
    folder = tmp_path_factory.mktemp("training")
    files = source(folder)
    return files, train(files, folder / "note")


def same(one: Network, other: Network) -> bool:
    states = one.cnn.state_dict(), other.cnn.state_dict()
    return one.temperature == other.temperature and all(
        torch.equal(value, states[1][name]) for name, value in states[0].items()
    )


def test_the_same_seed_gives_the_same_network_and_another_seed_another(
    trained: tuple[TrainingSource, Network], tmp_path: Path
) -> None:
    files, first = trained
    assert same(train(files, tmp_path / "a"), first)
    assert not same(train(files, tmp_path / "b", TrainingOptions(seed=6, epochs=4)), first)


ELSEWHERE = """
import sys
from pathlib import Path
from rich.console import Console
from export.training.dataset import TrainingSource
from export.training.pipeline import TrainingOptions, train_bundle

train_bundle(
    TrainingSource(Path(sys.argv[1]), None, "review", "sentiment"),
    Path(sys.argv[2]),
    TrainingOptions(seed=5, epochs=4),
    Console(quiet=True),
    torchscript=False,
)
"""


@pytest.fixture
def torch_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSource, Bundle]:
    """A run that nothing ended, in a process with other numbers of threads than this one."""
    folder = tmp_path_factory.mktemp("whole")
    files = TrainingSource(write(folder / "train.csv", made_up(300, 1)), None, "review", "sentiment")
    command = [sys.executable, "-c", ELSEWHERE, str(files.train), str(folder / "made")]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)
    return files, read_bundle(folder / "made")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_seed_gives_the_same_bundle_in_any_process_whatever_its_threads(
    whole: tuple[TrainingSource, Bundle], tmp_path: Path, torch_threads: Callable[[int], None], threads: int
) -> None:
    files, bundle = whole
    torch_threads(threads)
    assert train_bundle(files, tmp_path / "made", OPTIONS, QUIET, torchscript=False).version == bundle.version
    assert torch.get_num_threads() == threads


def test_the_metrics_in_the_manifest(trained: tuple[TrainingSource, Network]) -> None:
    _, network = trained
    metrics = network.metrics
    assert network.labels == ("no", "yes")
    assert metrics["texts"] == {"fitted": 270, "held_out": 30, "left_out": 0}
    assert metrics["test"]["texts"] == 60
    assert [line["epoch"] for line in metrics["history"]] == [1, 2, 3, 4]
    assert metrics["best_epoch"] == min(metrics["history"], key=lambda line: line["validation_loss"])["epoch"]
    assert metrics["recipe"]["seed"] == 5
    json.dumps(metrics)


def test_float16_holds_the_weights(trained: tuple[TrainingSource, Network]) -> None:
    for value in trained[1].cnn.state_dict().values():
        assert torch.equal(value, value.half().float())


@pytest.mark.slow
def test_a_word_that_decides_the_label_is_learned(tmp_path: Path) -> None:
    """Many epochs on texts that one word decides: far from chance, whatever the seed does."""
    files = TrainingSource(
        write(tmp_path / "train.csv", made_up(1200, 1)),
        write(tmp_path / "test.csv", made_up(200, 2)),
        "review",
        "sentiment",
    )
    network = train(files, tmp_path / "note", TrainingOptions(epochs=20))
    assert network.metrics["test"]["accuracy"] > 0.9
    assert network.temperature != 1.0


def test_few_texts_are_not_calibrated_and_a_warning_says_so(tmp_path: Path) -> None:
    rows = [(f"nothing to learn {i}", ("yes", "no")[i % 2]) for i in range(40)]
    said = io.StringIO()
    files = TrainingSource(write(tmp_path / "train.csv", rows), None, "review", "sentiment")
    network, done = train_network(
        files, TrainingOptions(epochs=1), Console(file=said, width=300), state=tmp_path / "note"
    )
    assert (network.temperature, done) == (1.0, True)
    assert "not measurably better than always predicting the most frequent label" in said.getvalue()
    assert "not calibrated" in said.getvalue()


def test_training_reads_texts_and_labels_as_the_server_does(tmp_path: Path) -> None:
    config = """<View><HyperText name="t" value="$page"/><Choices name="c" toName="t" allowNested="true">
    <Choice value="a"><Choice value="yes"/></Choice><Choice value="b"><Choice value="yes"/></Choice></Choices>
    </View>"""
    paths = (["a", "yes"], ["b", "yes"])
    tasks: list[dict[str, Any]] = [
        {
            "id": i,
            "data": {"page": f"<!-- hidden --><p>words {i}</p>"},
            "annotations": [
                {"result": [{"from_name": "c", "type": "choices", "value": {"choices": [paths[i % 2]]}}]}
            ],
        }
        for i in range(20)
    ]
    (tmp_path / "export.json").write_text(json.dumps([*tasks, {"data": {}, "annotations": []}]))
    source = TrainingSource(tmp_path / "export.json", None, label_config=config)
    data = read_data(source, seed=1, vocabulary=100, ignored="", min_length=1, tokenizer="basic_english")
    assert (data.labels, data.left_out) == (("a/yes", "b/yes"), 1)
    assert "words" in data.tokens
    assert "hidden" not in data.tokens
    several = replace(source, label_config=config.replace("allowNested", 'choice="multiple" allowNested'))
    with pytest.raises(BadInput, match="this network learns one label per text"):
        read_texts(several.labelled(several.train))


def test_any_number_of_classes_and_label_studios_export(tmp_path: Path) -> None:
    names = ("red", "green", "blue")
    tasks: list[dict[str, Any]] = [
        {
            "id": i,
            "data": {"words": text},
            "annotations": [
                {"result": [{"from_name": "colour", "type": "choices", "value": {"choices": [label]}}]}
            ],
        }
        for i, (text, label) in enumerate(made_up(120, 3, words=("x", "y", "z"), labels=names))
    ]
    (tmp_path / "export.json").write_text(
        json.dumps([*tasks, {"id": 999, "data": {"words": "w"}, "annotations": []}])
    )
    bundle = train_bundle(
        TrainingSource(tmp_path / "export.json", None, "words", "colour"),
        tmp_path / "colours",
        TrainingOptions(epochs=2),
        QUIET,
        torchscript=False,
    )
    assert bundle.labels == ("blue", "green", "red")
    assert bundle.manifest.metrics["texts"] == {"fitted": 108, "held_out": 12, "left_out": 1}
    assert "test" not in bundle.manifest.metrics


class EndedInEpoch2(Console):
    """Ends its process, or interrupts it, when it is to print what the second epoch gave."""

    def __init__(self, end: signal.Signals) -> None:
        super().__init__(quiet=True)
        self._end = end

    def print(self, *objects: Any, **options: Any) -> None:
        if objects and str(objects[0]).startswith("epoch 2:"):
            signal.raise_signal(self._end)


def go_on(files: TrainingSource, out: Path) -> Bundle:
    assert (out.parent / f".{out.name}.training").exists()
    bundle = train_bundle(files, out, OPTIONS, QUIET, torchscript=False, resume=True)
    assert not (out.parent / f".{out.name}.training").exists()
    return bundle


KILLED = """
import signal, sys
from pathlib import Path
from export.training.dataset import TrainingSource
from export.training.pipeline import train_bundle
from tests.export.test_training import OPTIONS, EndedInEpoch2

source = TrainingSource(Path(sys.argv[1]), None, "review", "sentiment")
train_bundle(source, Path(sys.argv[2]), OPTIONS, EndedInEpoch2(signal.SIGKILL), torchscript=False)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_bundle(
    whole: tuple[TrainingSource, Bundle], tmp_path: Path
) -> None:
    files, bundle = whole
    command = [sys.executable, "-c", KILLED, str(files.train), str(tmp_path / "made")]
    killed = subprocess.run(command, cwd=ROOT, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert go_on(files, tmp_path / "made").version == bundle.version


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on_to_the_same_bundle(
    whole: tuple[TrainingSource, Bundle], tmp_path: Path
) -> None:
    files, bundle = whole
    # a test run in the background hands down an interrupt that is ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        console = EndedInEpoch2(signal.SIGINT)
        early = train_bundle(files, tmp_path / "made", OPTIONS, console, torchscript=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(early.manifest.metrics["history"]) < 4
    assert go_on(files, tmp_path / "made").version == bundle.version


def test_resuming_with_other_options_is_an_error(
    trained: tuple[TrainingSource, Network], tmp_path: Path
) -> None:
    files, _ = trained
    with pytest.raises(BadInput, match="without --resume"):
        train(files, Path(files.train).parent / "note", TrainingOptions(seed=7, epochs=4), resume=True)
    (tmp_path / "note").write_bytes(b"junk")
    with pytest.raises(BadInput, match="cannot be read"):
        train(files, tmp_path / "note", resume=True)


def test_an_existing_bundle_is_an_error_before_training(
    trained: tuple[TrainingSource, Network], bundle: Bundle
) -> None:
    with pytest.raises(BadInput, match="--force"):
        train_bundle(trained[0], bundle.path, OPTIONS, QUIET)


@pytest.mark.parametrize(
    ("train_rows", "test_rows", "message"),
    [
        ([("a", "x"), ("b", "x")], [], "one label only"),
        ([("a", ""), ("b", "")], [], "no row has a label: 2 without an annotation or label"),
        ([("a", "x"), ("b", "y")] * 5, [("c", "z")], "does not have: z"),
        ([("a", "x"), ("a", "x"), ("b", "y"), ("c", "y")], [], 'the label "x" has one text only'),
        ([], [], "no rows"),
    ],
)
def test_a_file_that_cannot_be_trained_on_is_an_error(
    tmp_path: Path, train_rows: list[tuple[str, str]], test_rows: list[tuple[str, str]], message: str
) -> None:
    test_file = write(tmp_path / "test.csv", test_rows) if test_rows else None
    with pytest.raises(BadInput, match=message):
        train(
            TrainingSource(write(tmp_path / "train.csv", train_rows), test_file, "review", "sentiment"),
            tmp_path / "note",
        )


def test_ignored_tokens_are_not_in_the_vocabulary() -> None:
    texts = ["10/10 a film film", "7/10 film"]
    assert build_vocabulary(texts, 10, r"\d+/\d+") == ["<unk>", "<pad>", "film", "a"]
    assert build_vocabulary(texts, 3) == ["<unk>", "<pad>", "film"]
    with pytest.raises(BadInput, match="not a regular expression"):
        build_vocabulary(texts, 10, "(")


def test_a_tenth_of_each_label_is_held_out_and_no_text_is_on_both_sides() -> None:
    data = Texts([f"text {i % 150}" for i in range(300)], ["a" if i % 150 < 50 else "b" for i in range(300)])
    fitted, held_out = hold_out(data, 0.1, np.random.default_rng(0), Path("x.csv"))
    assert sorted(fitted + held_out) == list(range(300))
    assert not {data.texts[i] for i in fitted} & {data.texts[i] for i in held_out}
    assert [sum(data.labels[i] == label for i in held_out) for label in ("a", "b")] == [10, 20]


def test_the_temperature_corrects_overconfidence() -> None:
    random = torch.Generator().manual_seed(0)
    honest = torch.randn(20_000, 3, generator=random) * 2
    classes = torch.multinomial(torch.softmax(honest, dim=1), 1, generator=random).squeeze(1)
    temperature = fit_temperature(honest * 2.5, classes)
    assert temperature == pytest.approx(2.5, rel=0.05)
    calibrated = ClassificationMetrics(3)
    calibrated.add(torch.softmax(honest * 2.5 / temperature, dim=1).numpy(), classes.numpy())
    assert calibrated.calibration_error < 0.02
    assert fit_temperature(torch.tensor([[5.0, -5.0]] * 3), torch.tensor([0, 0, 0])) >= 0.05


def without_spaces(count: int, seed: int) -> list[tuple[str, str]]:
    """Sentences of Japanese nouns and verbs without a space, two of which tell the label."""
    random = np.random.default_rng(seed)
    filler = ["今日は", "映画を", "見ました", "友達と", "駅の", "近くで", "とても", "長い", "物語", "でした"]
    rows = []
    for i in range(count):
        parts = [*random.choice(filler, 8), ("素晴らしい", "退屈な")[i % 2], str(i)]
        rows.append(("".join(random.permutation(parts)), ("yes", "no")[i % 2]))
    return rows


@pytest.fixture(scope="module")
def japanese(tmp_path_factory: pytest.TempPathFactory) -> TrainingSource:
    folder = tmp_path_factory.mktemp("japanese")
    return TrainingSource(
        write(folder / "train.csv", without_spaces(300, 1)),
        write(folder / "test.csv", without_spaces(100, 2)),
        "review",
        "sentiment",
    )


@pytest.mark.slow
def test_texts_without_spaces_are_learned_in_pieces(japanese: TrainingSource, tmp_path: Path) -> None:
    """Chosen by evidence, which the manifest has; the bundle is read as any other."""
    said = io.StringIO()
    bundle = train_bundle(
        japanese, tmp_path / "made", OPTIONS, Console(file=said, width=300), torchscript=False
    )
    evidence = bundle.manifest.metrics["tokenizer"]
    assert evidence["chosen"] == "learned"
    assert evidence["log_loss"]["learned"] < evidence["log_loss"]["basic_english"] / 2
    assert "Tokenizer: learned, by the log loss of a linear model of the tokens: 0." in said.getvalue()
    assert bundle.manifest.metrics["test"]["accuracy"] > 0.95
    assert {"vocab.txt", "tokenizer.json"} <= set(read_bundle(bundle.path).manifest.files)
    start = train(japanese, tmp_path / "note", replace(OPTIONS, tokenizer="basic_english"))
    assert start.metrics["test"]["accuracy"] < 0.7
    assert start.metrics["tokenizer"] == {"chosen": "basic_english", "why": "as the options say"}


def test_words_that_spaces_divide_are_kept(trained: tuple[TrainingSource, Network]) -> None:
    assert trained[1].learned is None
    assert trained[1].metrics["tokenizer"]["chosen"] == "basic_english"


def test_hidden_tokens_are_words(trained: tuple[TrainingSource, Network], tmp_path: Path) -> None:
    data = read_data(trained[0], seed=1, vocabulary=100, ignored="x", min_length=1, tokenizer="auto")
    assert data.evidence == {"chosen": "basic_english", "why": "--ignore hides words"}
    options = TrainingOptions(ignore="x", tokenizer="learned")
    with pytest.raises(BadSetting, match="--ignore hides words"):
        options.check("cnn", start_from=None, resume=False, plots=None)
