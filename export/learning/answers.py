"""The answers of a project that a round learns from, and what probabilities give them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.encoders.base import Numbers
from export.training.training_data import folded, group_numbers
from server.bundle import Head
from server.learning.annotations import Annotation, OutOfFold

Truth = npt.NDArray[np.bool_]


Indices = npt.NDArray[np.intp]


LEAST_ANSWERS = 10
"""Different texts with an answer from which a round learns."""


LEAST_TEXTS = 2
"""Texts of a label from which it is learned."""


@dataclass(frozen=True)
class Answers:
    """Annotations that are learned from, by number; `truth` bool[answers, classes]. `text` int[answers] is
    the index in `texts`; equal texts and those of one task have one group. `weights` float64[answers].
    """

    annotations: Sequence[Annotation]
    labels: tuple[str, ...]
    texts: Sequence[str]
    text: Indices
    truth: Truth
    groups: Indices
    annotators: Indices
    weights: Numbers
    head: Head

    def of(self, kept: Truth) -> "Answers":
        """These answers only, with all texts."""
        return replace(
            self,
            annotations=[each for each, keep in zip(self.annotations, kept, strict=True) if keep],
            text=self.text[kept],
            truth=self.truth[kept],
            groups=self.groups[kept],
            annotators=self.annotators[kept],
            weights=self.weights[kept],
        )


def answers_of(
    given: Sequence[Annotation], base_names: Sequence[str], head: Head
) -> tuple[Answers | None, dict[str, Any]]:
    """The answers with labels that can be learned, None for too few, and first figures."""
    texts_of = defaultdict[str, set[str]](set)
    same = {each.text: folded(each.text) for each in given}
    for each in given:
        for label in each.labels:
            texts_of[label].add(same[each.text])
    learned = {label for label, texts in texts_of.items() if len(texts) >= LEAST_TEXTS}
    usable = [each for each in given if learned.issuperset(each.labels)]
    tasks: Indices = np.zeros(0, dtype=np.intp)
    if usable:
        tasks = group_numbers([each.text for each in usable], [str(each.task) for each in usable])
    different = len(np.unique(tasks))
    counts = Counter(label for each in given for label in each.labels)
    figures: dict[str, Any] = {
        "answers": len(usable),
        "texts": different,
        "labels": {label: counts[label] for label in sorted(learned)},
        "not_yet": {label: counts[label] for label in sorted(set(counts) - learned)},
    }
    if different < LEAST_ANSWERS or len(learned) < 2:
        return None, figures
    labels = tuple(dict.fromkeys(base_names)) if learned.issubset(base_names) else tuple(sorted(learned))
    number = {label: i for i, label in enumerate(labels)}
    truth = np.zeros((len(usable), len(labels)), dtype=bool)
    for row, each in enumerate(usable):
        truth[row, [number[label] for label in each.labels]] = True
    texts = list(dict.fromkeys(each.text for each in usable))
    index = {text: i for i, text in enumerate(texts)}
    repeated = Counter((each.annotator, same[each.text]) for each in usable)
    answers = Answers(
        usable,
        labels,
        texts,
        np.array([index[each.text] for each in usable], dtype=np.intp),
        truth,
        tasks,
        np.array([each.annotator for each in usable], dtype=np.intp),
        # an annotator's answers to equal texts count as one
        np.array([1 / repeated[each.annotator, same[each.text]] for each in usable]),
        head,
    )
    disagreeing = defaultdict[str, set[tuple[str, ...]]](set)
    for each in usable:
        disagreeing[same[each.text]].add(each.labels)
    return answers, figures | {"contradictions": sum(len(each) > 1 for each in disagreeing.values())}


def balances(answers: Answers) -> bool:
    """Whether all labels get the same weight in a fit, as in `export/training/linear_head.py`."""
    return bool((answers.truth.sum(axis=1) == 1).all())


def right_answers(values: Numbers, answers: Answers) -> Truth:
    """bool[answers] from probabilities, or logits, float64[answers, classes]."""
    if answers.head == "softmax":
        right: Truth = answers.truth[np.arange(len(values)), values.argmax(axis=1)]
        return right
    same: Truth = ((values >= 0.5) == answers.truth).all(axis=1)
    return same


def out_of_fold_of(probabilities: Numbers, answers: Answers) -> list[OutOfFold]:
    """What these probabilities float64[answers, classes] give each answer."""
    likelihood = np.where(
        answers.truth, probabilities, 1 - probabilities if answers.head == "sigmoid" else 1.0
    )
    logarithms = np.log(np.maximum(likelihood, 1e-12)).sum(axis=1)
    right = right_answers(probabilities, answers)
    return [OutOfFold(float(each), bool(is_right)) for each, is_right in zip(logarithms, right, strict=True)]


def frequencies_of(answers: Answers) -> Numbers:
    """float64[answers, classes]: the frequencies of the labels in all other groups."""
    counts = np.zeros((answers.groups.max() + 1, len(answers.labels)))
    np.add.at(counts, answers.groups, answers.truth * answers.weights[:, None])
    totals = np.bincount(answers.groups, answers.weights)
    others = counts.sum(axis=0) - counts[answers.groups] + 0.5
    number = (totals.sum() - totals[answers.groups])[:, None]
    frequencies: Numbers = others / (number + 0.5 * (others.shape[1] if answers.head == "softmax" else 2))
    return frequencies
