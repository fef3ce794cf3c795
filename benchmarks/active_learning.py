"""How many annotations a project needs, by the order of its tasks, and whether learning ever makes it worse.

    .venv/dev/bin/python -m benchmarks.active_learning NAME=TRAIN.csv,TEST.csv,TEXT,LABEL[,MOST] …
        [--start NAME=BUNDLE] [--labels 500] [--draws 5] [--quick] [--picture PNG]

A simulated annotator gives the labels of TRAIN, in batches as the learner waits for: 10 at first, later a
tenth of those before. After each batch `learn_round` fits a model, its gate accepts or refuses it, and the
tasks that are left get a new order from the model that is served then. Accuracy is that of the served model
on TEST; before there is one, that of the most frequent label so far. Each draw has other tasks: nine in ten
of TRAIN, or of MOST of its texts.

A project starts without a model, unless `--start` names the bundle that its server has: one with the labels
of the file, which was not trained on TRAIN. Data sets that are not named keep their figures.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.stats import binomtest

from benchmarks import pictures, results, tables
from benchmarks.goals import goals
from benchmarks.label_efficiency import DataSet, data_set
from export.classifier import FittedClassifier
from export.encoders.base import Numbers
from export.encoders.cnn import FittedCnn
from export.encoders.transformer import FittedTransformer
from export.learning.features import FeatureCache
from export.learning.order import features_of, usefulness
from export.learning.round import learn_round
from export.learning.served_model import Served
from server.bundle import Bundle, read_bundle
from server.learning.annotations import Annotation
from server.learning.triggers import FIRST, GROWTH, Order

NAME = "active_learning"
PICTURE = results.ROOT / "docs" / "images" / "active-learning.png"

ORDERS: tuple[Order, ...] = get_args(Order)

SHARE = 0.9
"""Of the texts in TRAIN, the tasks of a draw."""

MOST_TESTS = 1_000
MOST_FROM_START = 150
"""Annotations of a project that starts from a bundle: later ones change little."""


class Models(FeatureCache):
    """The features and answers of all models of a simulation, which are never published. `start` says whether
    the base is more than a name.
    """

    def __init__(self, *, start: bool) -> None:
        super().__init__()
        self._start = start
        self._learned: dict[str, FittedClassifier] = {}
        self._known: dict[str, dict[str, Numbers]] = {}

    def network(self, base: Bundle) -> FittedCnn | FittedTransformer | None:
        return super().network(base) if self._start else None

    def add(self, classifier: FittedClassifier, base: Bundle) -> Bundle:
        """A name for the model, by which `answers` finds it; the models before it are dropped."""
        version = f"learned-{time.monotonic_ns()}"
        self._learned, self._known = {version: classifier}, {version: {}}
        manifest = base.manifest.model_copy(update={"version": version, "labels": classifier.labels})
        return Bundle(base.path, manifest, base.encoders)

    def answers(self, bundle: Bundle, texts: Sequence[str]) -> Numbers:
        if bundle.version not in self._learned:
            return super().answers(bundle, texts)
        known = self._known[bundle.version]
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            found = self._learned[bundle.version].quick_probabilities(missing)
            known.update(zip(missing, found, strict=True))
        return np.stack([known[text] for text in texts]) if texts else np.zeros((0, len(bundle.labels)))

    def keep(self, versions: Sequence[str], texts: Sequence[str]) -> None:
        """Everything: other orders of the same tasks need it, too."""


@dataclass(frozen=True)
class Project:
    """The tasks of one draw and the test texts. `base` is what the server has, and `start` whether it has the
    project's labels; `features` [tasks, features] are those of the order.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    test: Sequence[str]
    truth: npt.NDArray[np.str_]
    features: Any
    base: Bundle
    models: Models
    start: bool


@dataclass
class Course:
    """What one annotator saw: the accuracy after each number of annotations, and what the gate did."""

    labels: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    decisions: Counter[str] = field(default_factory=Counter)
    steps: list[tuple[int, int]] = field(default_factory=list)
    """Of each accepted model that replaced another: test texts that only it had right, and only the other."""
    seconds: list[float] = field(default_factory=list)
    """Of each round."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", metavar="NAME=TRAIN.csv,TEST.csv,TEXT,LABEL[,MOST]")
    parser.add_argument("--start", action="append", default=[], metavar="NAME=BUNDLE")
    parser.add_argument("--labels", type=int, default=500, metavar="N")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument(
        "--most-tests", type=int, default=MOST_TESTS, metavar="N", help="of more test texts, N are used"
    )
    parser.add_argument("--quick", action="store_true", help="one draw of 60 labels")
    parser.add_argument("--picture", type=Path, default=PICTURE, metavar="PNG")
    args = parser.parse_args()
    console = Console(stderr=True)
    draws, most = (1, 60) if args.quick else (args.draws, args.labels)
    starts = {name: Path(bundle) for name, _, bundle in (each.partition("=") for each in args.start)}
    saved = results.read(NAME)
    sets = {each["name"]: each for each in saved["figures"]["sets"]} if saved else {}
    for given in args.sets:
        data = data_set(given, args.most_tests)
        bundle = read_bundle(starts[data.name]) if data.name in starts else None
        found = measure(data, int(SHARE * len(data.train.texts)), most, draws, bundle, console)
        sets[data.name] = found
        results.write(NAME, {"sets": list(sets.values())})
    figures = {"sets": list(sets.values())}
    pictures.active_learning({NAME: figures}, args.picture)
    out = Console(soft_wrap=True, highlight=False, markup=False)
    out.print(tables.active_learning(figures))
    for goal in goals({NAME: figures}):
        if goal.met is not None:
            out.print(f"{goal.name}: {goal.wanted}; found {goal.found}: {'met' if goal.met else 'missed'}")


def measure(
    data: DataSet, tasks: int, most: int, draws: int, start: Bundle | None, console: Console
) -> dict[str, Any]:
    """All orders, each with the same tasks in a draw."""
    base = start or read_bundle(results.ROOT / "artifacts" / "imdb-cnn")
    models = Models(start=start is not None)
    features = features_of(data.train.texts)
    truth = np.array([label for (label,) in data.test.labels])
    orders: dict[Order, list[Course]] = {order: [] for order in ORDERS}
    for draw in range(draws):
        rows = np.random.default_rng(draw).permutation(len(data.train.texts))[:tasks]
        project = Project(
            [data.train.texts[row] for row in rows],
            [data.train.labels[row][0] for row in rows],
            data.test.texts,
            truth,
            features[rows],
            base,
            models,
            start is not None,
        )
        for order, courses in orders.items():
            began = time.monotonic()
            courses.append(annotate(project, order, min(most, MOST_FROM_START) if start else most, draw))
            console.print(
                f"{data.name}, {order}, draw {draw + 1}: {courses[-1].accuracy[-1]:.3f} after "
                f"{courses[-1].labels[-1]:,} labels ({time.monotonic() - began:.0f} s)",
                highlight=False,
            )
    everything = [course for courses in orders.values() for course in courses]
    return {
        "name": data.name,
        "start": start.manifest.name if start else None,
        "classes": len(data.labels),
        "tasks": tasks,
        "test_texts": len(truth),
        "draws": draws,
        "labels": everything[0].labels,
        "accuracy": {order: [course.accuracy for course in courses] for order, courses in orders.items()},
        "rounds": dict(sum((course.decisions for course in everything), Counter[str]())),
        "steps": figures_of_steps([step for course in everything for step in course.steps], len(truth)),
        "round_seconds": float(np.mean([second for course in everything for second in course.seconds])),
    }


def annotate(project: Project, order: Order, most: int, draw: int) -> Course:
    """Annotates `most` tasks in this order, which is a new one after each round."""
    served = Served(project.base.version, project.base, project.base.labels, {}) if project.start else None
    annotations: list[Annotation] = []
    left = np.arange(len(project.texts))
    right = _right(project, served, annotations)
    course = Course([0], [float(right.mean())]) if project.start else Course()
    for size in batches(min(most, len(project.texts))):
        texts = [project.texts[row] for row in left.tolist()]
        probabilities = project.models.answers(served.bundle, texts) if served else None
        scores = usefulness(probabilities, project.features[left], order, draw * 1_000 + len(annotations))
        chosen = left[np.argsort(scores)[:size]]
        left = np.setdiff1d(left, chosen)
        annotations += [
            Annotation(row + 1, row + 1, 1, project.texts[row], (project.labels[row],), "")
            for row in chosen.tolist()
        ]
        began = time.monotonic()
        found = learn_round(
            annotations, project.base, served, project.models, several=False, base_names=_names(project)
        )
        course.seconds.append(time.monotonic() - began)
        course.decisions[found.decision] += 1
        before, replaced = right, served is not None
        if found.classifier is not None:
            bundle = project.models.add(found.classifier, project.base)
            # at once, because a model reads its n-grams for each call
            others = [project.texts[row] for row in left.tolist()]
            project.models.answers(bundle, [*others, *project.test])
            served = Served(bundle.version, bundle, found.classifier.labels, found.out_of_fold)
        right = _right(project, served, annotations)
        if found.classifier is not None and replaced:
            course.steps.append((int((right & ~before).sum()), int((before & ~right).sum())))
        course.labels.append(len(annotations))
        course.accuracy.append(float(right.mean()))
    return course


def batches(most: int) -> Iterator[int]:
    """How many annotations each round waits for, `most` together."""
    done = 0
    while done < most:
        size = min(max(FIRST, int(np.ceil(GROWTH * done))), most - done)
        done += size
        yield size


def figures_of_steps(steps: Sequence[tuple[int, int]], tests: int) -> dict[str, Any]:
    """The worst change of accuracy by an accepted model, and the least p of a sign test that a step was no
    loss, times the number of steps (Bonferroni), 1 at most.
    """
    if not steps:
        return {"number": 0, "worse": 0, "worst": 0.0, "p": 1.0}
    p = [
        float(binomtest(gained, gained + lost, alternative="less").pvalue) if gained + lost else 1.0
        for gained, lost in steps
    ]
    return {
        "number": len(steps),
        "worse": sum(gained < lost for gained, lost in steps),
        "worst": min((gained - lost) / tests for gained, lost in steps),
        "p": min(1.0, min(p) * len(p)),
    }


def _names(project: Project) -> Sequence[str]:
    return project.base.labels if project.start else ()


def _right(
    project: Project, served: Served | None, annotations: Sequence[Annotation]
) -> npt.NDArray[np.bool_]:
    """bool[test texts]."""
    if served is not None:
        best = project.models.answers(served.bundle, project.test).argmax(axis=1)
        return np.asarray(np.array(served.names)[best] == project.truth)
    labels = Counter(label for each in annotations for label in each.labels).most_common(1)
    return np.asarray(project.truth == (labels[0][0] if labels else ""))


if __name__ == "__main__":
    main()
