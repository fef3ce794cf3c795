"""Measures a bundle on labelled texts: metrics, accuracy by length and by any column, and the most confident
mistakes.
"""

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from server.arrays import Floats
from server.errors import BadInput
from server.evaluate.classification_metrics import ClassificationMetrics
from server.label_studio.object_tags import text_of
from server.offline.classifier import CHUNK, Classifier
from server.offline.labelled import Example, open_labelled

MISTAKES = 20
"""Mistakes that are kept and shown."""

LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds, in tokens, of the groups by length; 0 stands for longer texts."""


@dataclass(frozen=True, order=True)
class Mistake:
    """A text with the wrong predicted label; `number` is its row. Ordered by confidence."""

    confidence: float
    number: int
    text: str
    label: str
    predicted: str


@dataclass
class Evaluation:
    """The result. `by_length` and `by_group` hold [correct rows, rows]; `left_out` counts exported tasks
    without a label; `seconds` is the time of tokenizer and model alone.
    """

    labels: tuple[str, ...]
    metrics: ClassificationMetrics
    by_length: dict[int, list[int]] = field(default_factory=dict)
    by_group: dict[str, list[int]] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    left_out: int = 0
    seconds: float = 0.0

    def count(
        self, example: Example, tokens: int, truth: int, probabilities: Floats, group: str | None
    ) -> None:
        """Count one text in its groups, and keep it if it is among the most confident mistakes.

        `truth` is the index of its class, `probabilities` float32[classes].
        """
        predicted = int(probabilities.argmax())
        bound = next((bound for bound in LENGTHS if tokens <= bound), 0)
        groups = [self.by_length.setdefault(bound, [0, 0])]
        if group is not None:
            groups.append(self.by_group.setdefault(group, [0, 0]))
        for counts in groups:
            counts[0] += predicted == truth
            counts[1] += 1
        if predicted != truth:
            mistake = Mistake(
                float(probabilities[predicted]),
                example.number,
                example.text,
                self.labels[truth],
                self.labels[predicted],
            )
            (heapq.heappush if len(self.mistakes) < MISTAKES else heapq.heappushpop)(self.mistakes, mistake)

    def sort(self) -> None:
        """Lengths ascending, groups by name, the most confident mistake first."""
        self.by_length = {bound: self.by_length[bound] for bound in (*LENGTHS, 0) if bound in self.by_length}
        self.by_group = dict(sorted(self.by_group.items()))
        self.mistakes.sort(reverse=True)


def evaluate_file(
    source: Path,
    classifier: Classifier,
    *,
    text: str,
    label: str,
    label_map: Mapping[str, str] | None = None,
    by: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure an open classifier on the labelled rows of `source`.

    `text`, `label` and `by` name columns; `by` also gives the groups. `label_map` maps the model's labels to
    those of the file. `on_progress(rows done, bytes of the source read)` is called after each chunk. Raises
    BadInput, also for labels that the model does not have.
    """
    labels = classifier.bundle.labels
    to_model_label = {name: model_label for model_label, name in (label_map or {}).items()}
    result = Evaluation(labels, ClassificationMetrics(len(labels)))
    done = 0
    with open_labelled(source, text, label) as (examples, position):
        for chunk in _chunks(examples):
            labelled = [example for example in chunk if example.label is not None]
            result.left_out += len(chunk) - len(labelled)
            classes = [_class_of(source, example, labels, to_model_label) for example in labelled]
            groups = [_group(source, example, by) for example in labelled]
            _measure(classifier, labelled, classes, groups, result)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, position())
    result.sort()
    return result


def _chunks(examples: Iterator[Example]) -> Iterator[list[Example]]:
    while chunk := list(islice(examples, CHUNK)):
        yield chunk


def _measure(
    classifier: Classifier,
    examples: list[Example],
    classes: list[int],
    groups: list[str | None],
    result: Evaluation,
) -> None:
    """Classify the examples and add them to the result. `classes` are the true ones."""
    started = time.perf_counter()
    rows = classifier.encode([example.text for example in examples])
    probabilities = classifier.probabilities(rows)
    result.seconds += time.perf_counter() - started
    result.metrics.add(probabilities, np.array(classes, dtype=np.int64))
    for example, row, truth, p, group in zip(examples, rows, classes, probabilities, groups, strict=True):
        result.count(example, len(row), truth, p, group)


def _class_of(
    source: Path, example: Example, labels: tuple[str, ...], to_model_label: Mapping[str, str]
) -> int:
    """The class of an example's label: the same text after mapping, else the same ignoring case."""
    name = to_model_label.get(example.label or "", example.label or "")
    for normalized in (str, str.casefold):
        for index, label in enumerate(labels):
            if normalized(label) == normalized(name):
                return index
    raise BadInput(
        f'{source}: row {example.number}: the label "{name}" is not one of the model\'s: '
        f"{', '.join(labels)}. Give --map LABEL={name}."
    )


def _group(source: Path, example: Example, by: str | None) -> str | None:
    group = text_of(example.columns, by) if by is not None else None
    if by is not None and group is None:
        raise BadInput(
            f'{source}: row {example.number} has no value in the column "{by}" (--by); its columns: '
            f"{', '.join(map(str, example.columns))}."
        )
    return group
