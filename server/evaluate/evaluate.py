"""Measures a bundle on labelled texts: metrics, accuracy by length and by any column, and the most confident
mistakes.
"""

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from server.arrays import Bools, Floats
from server.errors import BadInput
from server.evaluate.classification_metrics import ClassificationMetrics
from server.evaluate.label_classes import class_of, label_classes
from server.evaluate.multi_label_metrics import MultiLabelMetrics
from server.label_studio.object_tags import text_of
from server.offline.classifier import CHUNK, Classifier
from server.offline.labelled import Example, LabelledSource, LeftOut, open_labelled
from server.scoring import DEFAULT_SCORING

MISTAKES = 20
"""Mistakes that are kept and shown."""

LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds, in tokens, of the groups by length; 0 stands for longer texts."""


@dataclass(frozen=True, order=True)
class Mistake:
    """A text with a wrong prediction; `number` is its row. Ordered by confidence, that of the worst label
    where a text may have several.
    """

    confidence: float
    number: int
    text: str
    label: str
    predicted: str


@dataclass
class Evaluation:
    """The result. `several` is None unless texts may have several labels; then it has the metrics, and
    `metrics` is empty.

    `by_length` and `by_group` hold [correct rows, rows]; `truncated` counts texts; `seconds` is
    the time of tokenizer and model alone.
    """

    labels: tuple[str, ...]
    metrics: ClassificationMetrics
    several: MultiLabelMetrics | None = None
    by_length: dict[int, list[int]] = field(default_factory=dict)
    by_group: dict[str, list[int]] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    truncated: int = 0
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        return self.metrics.rows if self.several is None else self.several.rows

    def add(self, probabilities: Floats, truth: Bools) -> None:
        """Add rows to the metrics: probabilities float32[rows, classes], truth bool[rows, classes]."""
        if self.several is None:
            self.metrics.add(probabilities, truth.argmax(axis=1))
        else:
            self.several.add(probabilities, truth)

    def count(
        self, example: Example, tokens: int, truth: Bools, probabilities: Floats, group: str | None
    ) -> None:
        """Count one text in its groups, and keep it if it is among the most confident mistakes.

        truth bool[classes], probabilities float32[classes].
        """
        predicted = self._predicted(probabilities)
        wrong = predicted != truth
        bound = next((bound for bound in LENGTHS if tokens <= bound), 0)
        groups = [self.by_length.setdefault(bound, [0, 0])]
        if group is not None:
            groups.append(self.by_group.setdefault(group, [0, 0]))
        for counts in groups:
            counts[0] += not wrong.any()
            counts[1] += 1
        if wrong.any():
            certainty = np.where(predicted, probabilities, 1 - probabilities)
            worst = predicted if self.several is None else wrong
            mistake = Mistake(
                float(certainty[worst].max()),
                example.number,
                example.text,
                self._names(truth),
                self._names(predicted),
            )
            (heapq.heappush if len(self.mistakes) < MISTAKES else heapq.heappushpop)(self.mistakes, mistake)

    def _predicted(self, probabilities: Floats) -> Bools:
        """bool[classes]: the most probable label, or those at the threshold or above."""
        if self.several is not None:
            chosen: Bools = probabilities >= self.several.threshold
        else:
            chosen = np.arange(len(probabilities)) == probabilities.argmax()
        return chosen

    def _names(self, chosen: Bools) -> str:
        return ", ".join(self.labels[index] for index in np.flatnonzero(chosen)) or "none"

    def sort(self) -> None:
        """Lengths ascending, groups by name, the most confident mistake first."""
        self.by_length = {bound: self.by_length[bound] for bound in (*LENGTHS, 0) if bound in self.by_length}
        self.by_group = dict(sorted(self.by_group.items()))
        self.mistakes.sort(reverse=True)


def evaluate_file(
    source: LabelledSource,
    classifier: Classifier,
    *,
    label_map: Mapping[str, str] | None = None,
    threshold: float = DEFAULT_SCORING.threshold,
    by: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure an open classifier on the labelled rows of `source`.

    `label_map` maps the model's labels to those of the file; `threshold` is the lowest probability of a label
    where texts may have several. `by` names a column that gives groups. `on_progress(texts done, bytes of the
    source read)` is called after each chunk. Raises BadInput, also for labels that the model does not have,
    and BadLabelConfig for a labeling config that the model cannot fill.
    """
    labels = classifier.bundle.labels
    find = label_classes(source, labels, label_map or {})

    def truth_of(examples: list[Example]) -> Bools:
        truth = np.zeros((len(examples), len(labels)), dtype=np.bool_)
        for row, example in zip(truth, examples, strict=True):
            where = f"{source.path}: row {example.number}"
            row[[class_of(name, find, labels, where) for name in example.labels]] = True
        return truth

    several = classifier.bundle.manifest.head == "sigmoid"
    while True:
        result = Evaluation(labels, ClassificationMetrics(len(labels)))
        with open_labelled(source) as rows:
            several |= rows.multi_label
            if several:
                result.several = MultiLabelMetrics(len(labels), threshold)
            for chunk in _chunks(iter(rows)):
                if rows.multi_label and not several:
                    break
                groups = [_group(source, example, by) for example in chunk]
                _measure(classifier, chunk, truth_of(chunk), groups, result)
                if on_progress is not None:
                    on_progress(result.rows, rows.position())
            else:
                result.left_out = rows.left_out
                result.sort()
                return result
        # a text with several labels was found, so all texts are measured again in that way
        several = True


def _chunks(examples: Iterator[Example]) -> Iterator[list[Example]]:
    while chunk := list(islice(examples, CHUNK)):
        yield chunk


def _measure(
    classifier: Classifier,
    examples: list[Example],
    truth: Bools,
    groups: list[str | None],
    result: Evaluation,
) -> None:
    """Classify the examples and add them to the result."""
    truncated, started = classifier.truncated, time.perf_counter()
    rows = classifier.encode([example.text for example in examples])
    probabilities = classifier.probabilities(rows)
    result.seconds += time.perf_counter() - started
    result.truncated += classifier.truncated - truncated
    result.add(probabilities, truth)
    for example, row, correct, p, group in zip(examples, rows, truth, probabilities, groups, strict=True):
        result.count(example, len(row), correct, p, group)


def _group(source: LabelledSource, example: Example, by: str | None) -> str | None:
    group = text_of(example.columns, by) if by is not None else None
    if by is not None and group is None:
        raise BadInput(
            f'{source.path}: row {example.number} has no value in the column "{by}" (--by); its columns: '
            f"{', '.join(map(str, example.columns))}."
        )
    return group
