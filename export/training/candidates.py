"""Candidates of a training run: blocks of features under one head, and how good each is."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from export.classifier import FittedClassifier
from export.encoders.base import Numbers
from export.encoders.cnn import FittedCnn
from export.training.blocks import Block, CnnBlock, NgramBlock, Rows
from export.training.evidence import Estimate, Fold, cross_validate
from export.training.linear_head import Targets, fit_head
from export.training.training_data import TrainingData
from server.bundle import Bundle
from server.engines.onnx_file import read_tensors
from server.errors import BadInput


@dataclass(frozen=True)
class Candidate:
    """Blocks of features under one head."""

    name: str
    blocks: Sequence[Block]

    def fit(self, targets: Targets, rows: Rows) -> Callable[[Rows], Numbers]:
        """Fitted on these rows: a function from rows to logits float64[rows, classes]."""
        return fit_head(self.blocks, targets, rows).logits

    def fit_on_all(self, data: TrainingData) -> FittedClassifier:
        """Not calibrated."""
        head = fit_head(self.blocks, data.labelled.targets, np.arange(len(data.texts)))
        return head.classifier(data.labels, data.labelled.head)


@dataclass(frozen=True)
class Unchanged:
    """The answers of a bundle that has these labels already: `logits` float64[texts, classes] of its
    `classifier`.
    """

    name: str
    classifier: FittedClassifier
    logits: Numbers

    def fit(self, targets: Targets, rows: Rows) -> Callable[[Rows], Numbers]:  # noqa: ARG002 - as Candidate
        return lambda others: self.logits[others]

    def fit_on_all(self, data: TrainingData) -> FittedClassifier:  # noqa: ARG002
        return self.classifier


@dataclass(frozen=True)
class Measured:
    """The estimate of a candidate, and what fits it on all texts, calibrated."""

    estimate: Estimate
    fit_on_all: Callable[[], FittedClassifier]


def measure(candidate: Candidate | Unchanged, data: TrainingData, folds: Sequence[Fold]) -> Measured:
    """Cross-validate."""
    fit = partial(candidate.fit, data.labelled.targets)
    estimate = cross_validate(candidate.name, fit, data.labelled, folds)
    return Measured(estimate, lambda: estimate.calibration.of(candidate.fit_on_all(data)))


def measure_all(
    candidates: Sequence[Candidate | Unchanged],
    data: TrainingData,
    folds: Sequence[Fold],
    doing: Callable[[str], AbstractContextManager[Any]],
) -> list[Measured]:
    """`doing` is entered with a description of each step."""
    found = []
    for candidate in candidates:
        with doing(f"measuring {candidate.name}"):
            found.append(measure(candidate, data, folds))
    return found


def best_of(measured: Sequence[Measured]) -> Measured:
    """By the sum of accuracy and macro F1, then by log loss."""
    return max(measured, key=lambda each: each.estimate.better_order)


def ngram_candidate(texts: Sequence[str]) -> Candidate:
    """Raises BadInput if there are none."""
    words = NgramBlock(texts, "words", 1, 2, weight=0.3)
    characters = NgramBlock(texts, "characters", 1, 5, weight=0.7)
    blocks = [block for block in (words, characters) if block.ngrams]
    if not blocks:
        raise BadInput("The texts have no words or characters to learn from.")
    return Candidate("n-grams", blocks)


def candidates_from(base: Bundle, data: TrainingData, ngrams: Candidate) -> list[Candidate | Unchanged]:
    """The CNN of `base` under a new head, alone and with n-grams, and as it is if it has the labels of
    `data`. Raises BadBundle.
    """
    cnn = CnnBlock(base, data.texts)
    name = f"CNN of {base.manifest.name}"
    found: list[Candidate | Unchanged] = [
        Candidate(name, [cnn]),
        Candidate(f"{name} + n-grams", [cnn, *ngrams.blocks]),
    ]
    if set(base.labels) == set(data.labels) and (base.manifest.head, len(base.encoders)) == ("softmax", 1):
        classifier = _classifier_of(base, data.labels)
        logits = np.log(np.maximum(classifier.quick_probabilities(data.texts), 1e-12))
        found.append(Unchanged(f"{base.manifest.name} as it is", classifier, logits))
    return found


def _classifier_of(bundle: Bundle, labels: tuple[str, ...]) -> FittedClassifier:
    """A bundle of one CNN, with its labels in this order."""
    tensors = read_tensors(bundle)
    columns = [bundle.labels.index(label) for label in labels]
    cnn = FittedCnn.of(bundle, np.ascontiguousarray(tensors["head"][:, columns], dtype=np.float32))
    bias = tensors["head_bias"][columns].astype(np.float32)
    return FittedClassifier(labels, [cnn], bias, temperature=bundle.manifest.temperature)
