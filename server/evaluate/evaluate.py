"""How good a bundle is on labelled texts: figures, by length and by any column, and its most confident
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

LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds in tokens of the groups by length."""


@dataclass(frozen=True, order=True)
class Mistake:
    """A text that got another label than its own; ordered by confidence."""

    confidence: float
    number: int
    text: str
    label: str
    predicted: str


@dataclass
class Evaluation:
    """`by_length` and `by_group` hold [right rows, rows]; `left_out` counts exported tasks without a label;
    `seconds` are tokens and model alone.
    """

    labels: tuple[str, ...]
    figures: ClassificationMetrics
    by_length: dict[int, list[int]] = field(default_factory=dict)
    by_group: dict[str, list[int]] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    left_out: int = 0
    seconds: float = 0.0

    def note(
        self, example: Example, tokens: int, true: int, probabilities: Floats, group: str | None
    ) -> None:
        """Count one text to its groups, and keep it if it is among the most confident mistakes."""
        predicted = int(probabilities.argmax())
        bound = next((bound for bound in LENGTHS if tokens <= bound), 0)
        tallies = [self.by_length.setdefault(bound, [0, 0])]
        if group is not None:
            tallies.append(self.by_group.setdefault(group, [0, 0]))
        for prediction_stats in tallies:
            prediction_stats[0] += predicted == true
            prediction_stats[1] += 1
        if predicted != true:
            mistake = Mistake(
                float(probabilities[predicted]),
                example.number,
                example.text,
                self.labels[true],
                self.labels[predicted],
            )
            (heapq.heappush if len(self.mistakes) < MISTAKES else heapq.heappushpop)(self.mistakes, mistake)

    def sort(self) -> None:
        """Lengths rising, groups by name, the most confident mistake first."""
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
    """Measure the classifier (in use) on the labelled rows of `source`.

    `label_map` maps a label of the model to the file's word for it; `by` names a column whose values are told
    apart; `on_progress(rows done, bytes of the source read)` is called after every chunk. Raises BadInput,
    also for labels that the model does not have.
    """
    labels = classifier.bundle.labels
    renamed = {name: label for label, name in (label_map or {}).items()}
    result = Evaluation(labels, ClassificationMetrics(len(labels)))
    done = 0
    with open_labelled(source, text, label) as (examples, position):
        for chunk in _chunks(examples):
            labelled = [example for example in chunk if example.label is not None]
            result.left_out += len(chunk) - len(labelled)
            truth = np.array(
                [_class_of(source, example, labels, renamed) for example in labelled], dtype=np.int64
            )
            started = time.perf_counter()
            rows = classifier.encode([example.text for example in labelled])
            probabilities = classifier.probabilities(rows)
            result.seconds += time.perf_counter() - started
            result.figures.add(probabilities, truth)
            for example, row, true, p in zip(labelled, rows, truth.tolist(), probabilities, strict=True):
                result.note(example, len(row), true, p, _group(source, example, by))
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, position())
    result.sort()
    return result


def _chunks(examples: Iterator[Example]) -> Iterator[list[Example]]:
    while chunk := list(islice(examples, CHUNK)):
        yield chunk


def _class_of(source: Path, example: Example, labels: tuple[str, ...], renamed: Mapping[str, str]) -> int:
    """The class of a label: by the label map, else the same text, else ignoring case."""
    name = renamed.get(example.label or "", example.label or "")
    for same in (str, str.casefold):
        found = [i for i, label in enumerate(labels) if same(label) == same(name)]
        if found:
            return found[0]
    raise BadInput(
        f'{source}: row {example.number}: the label "{name}" is none of the model\'s: {", ".join(labels)}. Give --map LABEL={name}.'
    )


def _group(source: Path, example: Example, by: str | None) -> str | None:
    group = text_of(example.columns, by) if by is not None else None
    if by is not None and group is None:
        raise BadInput(f'{source}: row {example.number} has no value in the column "{by}" (--by).')
    return group
