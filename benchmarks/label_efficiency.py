"""How good `prelabel train` is by the number of labels, and two TF-IDF baselines on the same texts.

    .venv/dev/bin/python -m benchmarks.label_efficiency NAME=TRAIN.csv,TEST.csv,TEXT,LABEL[,MOST] …
        [--labels 50,100,200,500,1000] [--draws 5] [--most-tests 1500] [--sentence-encoder DIR]

For every data set and number of labels: the mean of some stratified draws of the training texts, and at the
end all of them once. A baseline is TF-IDF and logistic regression (C = 10); its regularization is not tuned,
and its probabilities are not calibrated. Figures are of the test texts. TEXT and LABEL are columns; of more
than MOST training texts a draw of MOST is taken for all. Data sets that are not named keep their figures.

With a sentence encoder, `prelabel train --sentence-encoder` is measured, too, and scikit-learn's logistic
regression (as it comes, and with classes of equal weight) on the same embeddings, which are computed once for
each text.

A perfectly calibrated model would not have a calibration error of 0: of few test texts, chance leaves some.
`calibration_error_by_chance` is what remains if each answer is right with just its own probability.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from benchmarks import pictures, results, tables
from benchmarks.goals import goals
from benchmarks.tables import OF_EMBEDDINGS, WITH_ENCODER
from benchmarks.texts import numbers_of
from export.encoders.base import Numbers
from export.encoders.transformer import FittedTransformer
from export.publish_transformer import TransformerOptions
from export.training.blocks import TransformerBlock
from export.training.by_evidence import fit_without_publishing
from export.training.evidence import figures_of
from export.training.with_sentence_encoder import fitted_sentence_encoder
from server.arrays import Floats, Ids
from server.offline.labelled import LabelledSource, LabelledTexts, LeftOut, read_labelled

NAME = "label_efficiency"
PICTURE = results.ROOT / "docs" / "images" / "label-efficiency.png"

OURS = "prelabel train"
BASELINES: dict[str, dict[str, Any]] = {
    "TF-IDF words": {"ngram_range": (1, 2)},
    "TF-IDF characters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}
CLASS_WEIGHTS = None, "balanced"
"""Those of `OF_EMBEDDINGS`."""
FIGURES = ("accuracy", "macro_f1", "calibration_error")

ROUNDS_OF_CHANCE = 20


@dataclass(frozen=True)
class DataSet:
    name: str
    train: LabelledTexts
    test: LabelledTexts

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({label for (label,) in self.train.labels}))


@dataclass(frozen=True, eq=False)
class RememberingTransformer(FittedTransformer):
    """Computes the features of a row once; `known` has them by the row's bytes."""

    known: dict[bytes, Floats] = field(default_factory=dict)

    def features(self, rows: Sequence[Ids], on_tokens: Callable[[int], None] = lambda _: None) -> Floats:
        new = {row.tobytes(): row for row in rows if row.tobytes() not in self.known}
        if new:
            found = super().features(list(new.values()), on_tokens)
            self.known.update(zip(new, found, strict=True))
        return np.stack([self.known[row.tobytes()] for row in rows])

    def embeddings(self, texts: Sequence[str]) -> Numbers:
        return TransformerBlock(self, texts).values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", metavar="NAME=TRAIN.csv,TEST.csv,TEXT,LABEL[,MOST]")
    parser.add_argument("--labels", type=numbers_of, default=[50, 100, 200, 500, 1000], metavar="N,N")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument(
        "--most-tests", type=int, default=1_500, metavar="N", help="of more test texts, N are used"
    )
    parser.add_argument("--sentence-encoder", type=Path, metavar="DIR")
    parser.add_argument("--picture", type=Path, default=PICTURE, metavar="PNG")
    args = parser.parse_args()
    console = Console(stderr=True)
    network = remembering(args.sentence_encoder) if args.sentence_encoder else None
    saved = results.read(NAME)
    sets = {each["name"]: each for each in saved["figures"]["sets"]} if saved else {}
    for given in args.sets:
        data = data_set(given, args.most_tests)
        lines = []
        for line in measure(data, args.labels, args.draws, network):
            console.print(f"{data.name}, {line['labels']:,} labels: {line[OURS]}", highlight=False)
            lines.append(line)
        sets[data.name] = {"name": data.name, "test_texts": len(data.test.texts), "lines": lines}
        results.write(NAME, {"sets": list(sets.values())})
    figures = {"sets": list(sets.values())}
    pictures.label_efficiency({NAME: figures}, args.picture)
    out = Console(soft_wrap=True, highlight=False, markup=False)
    out.print(tables.label_efficiency(figures))
    for goal in goals({NAME: figures}):
        if goal.met is not None:
            out.print(
                f"{goal.name}: {goal.wanted}; found {goal.found}: {'reached' if goal.met else 'missed'}"
            )


def remembering(folder: Path) -> RememberingTransformer:
    fitted = fitted_sentence_encoder(folder, TransformerOptions())
    return RememberingTransformer(fitted.spec, fitted.content, fitted.network, fitted.head)


def data_set(given: str, most_tests: int) -> DataSet:
    name, _, rest = given.partition("=")
    train, test, text, label, *most = rest.split(",")
    read = [read_labelled(LabelledSource(Path(path), text, label)) for path in (train, test)]
    return DataSet(
        name, drawn(read[0], int(most[0]) if most else len(read[0].texts), 0), drawn(read[1], most_tests, 0)
    )


def drawn(texts: LabelledTexts, number: int, seed: int) -> LabelledTexts:
    """As many of the texts, stratified by label; all of them if there are no more."""
    if number >= len(texts.texts):
        return texts
    rows, _ = train_test_split(
        range(len(texts.texts)),
        train_size=number,
        random_state=seed,
        stratify=[one for (one,) in texts.labels],
    )
    rows = sorted(rows)
    return LabelledTexts(
        [texts.texts[row] for row in rows], [texts.labels[row] for row in rows], False, LeftOut()
    )


def measure(
    data: DataSet, numbers: Sequence[int], draws: int, network: RememberingTransformer | None = None
) -> Iterator[dict[str, Any]]:
    """A line for each number of labels below that of all, and one for all."""
    everything = len(data.train.texts)
    for number in [*(number for number in numbers if number < everything), everything]:
        rounds = [
            measure_draw(drawn(data.train, number, seed), data, seed, network)
            for seed in range(1 if number == everything else draws)
        ]
        mean = {
            name: {key: float(np.mean([each[name][key] for each in rounds])) for key in rounds[0][name]}
            for name in rounds[0]
        }
        yield {"labels": number, "draws": len(rounds), **mean}


def measure_draw(
    texts: LabelledTexts, data: DataSet, seed: int, network: RememberingTransformer | None = None
) -> dict[str, dict[str, float]]:
    """Figures of `prelabel train` and of each baseline, fitted on these texts."""
    classes, truth = _classes(texts, data.labels), np.eye(len(data.labels))[_classes(data.test, data.labels)]

    def of_baseline(model: Any, fitted: Any, tested: Any) -> dict[str, float]:
        model.fit(fitted, classes)
        expected = np.zeros((len(truth), len(data.labels)))
        expected[:, model.classes_] = model.predict_proba(tested)
        return _figures(expected, truth)

    result = {OURS: _of_train(texts, data, seed, truth, None)}
    for name, options in BASELINES.items():
        model = make_pipeline(
            TfidfVectorizer(sublinear_tf=True, **options), LogisticRegression(C=10, max_iter=1000)
        )
        result[name] = of_baseline(model, texts.texts, data.test.texts)
    if network is not None:
        fitted, tested = network.embeddings(texts.texts), network.embeddings(data.test.texts)
        result[WITH_ENCODER] = _of_train(texts, data, seed, truth, network)
        for name, weights in zip(OF_EMBEDDINGS, CLASS_WEIGHTS, strict=True):
            model = LogisticRegression(class_weight=weights, max_iter=1000)
            result[name] = of_baseline(model, fitted, tested)
    return result


def _of_train(
    texts: LabelledTexts,
    data: DataSet,
    seed: int,
    truth: npt.NDArray[Any],
    network: RememberingTransformer | None,
) -> dict[str, float]:
    started = time.perf_counter()
    classifier = fit_without_publishing(texts, data.labels, seed, network)
    seconds = time.perf_counter() - started
    # those of a transformer come from memory, which its definition would not
    probabilities = (
        classifier.probabilities(data.test.texts)
        if network is None
        else classifier.quick_probabilities(data.test.texts)
    )
    return {
        **_figures(probabilities, truth),
        "calibration_error_by_chance": calibration_error_by_chance(probabilities),
        "seconds": seconds,
    }


def calibration_error_by_chance(probabilities: Numbers) -> float:
    """The mean calibration error if each answer is right with its own probability."""
    random = np.random.default_rng(0)
    confidence = probabilities.max(axis=1)
    # two classes: the answer is right, or it is not
    answers = np.stack([confidence, np.zeros_like(confidence)], axis=1)
    errors = []
    for _ in range(ROUNDS_OF_CHANCE):
        right = random.random(len(confidence)) < confidence
        errors.append(_figures(answers, np.stack([right, ~right], axis=1))["calibration_error"])
    return float(np.mean(errors))


def _classes(texts: LabelledTexts, labels: tuple[str, ...]) -> npt.NDArray[np.intp]:
    return np.array([labels.index(label) for (label,) in texts.labels], dtype=np.intp)


def _figures(probabilities: Numbers, truth: npt.NDArray[Any]) -> dict[str, float]:
    figures = figures_of(probabilities, truth, "softmax")
    return {key: float(figures[key]) for key in FIGURES}


if __name__ == "__main__":
    main()
