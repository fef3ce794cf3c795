"""Candidates of a training run: blocks of features under one head, and how good each is."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from export.classifier import FittedClassifier
from export.encoders.base import Numbers
from export.training.blocks import Block, CnnBlock, NgramBlock, Rows
from export.training.evidence import Estimate, Fold, cross_validate
from export.training.linear_head import Targets, fit_head
from export.training.training_data import TrainingData
from server.bundle import Bundle
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
class Measured:
    """The estimate of a candidate, and what fits it on all texts, calibrated."""

    estimate: Estimate
    fit_on_all: Callable[[], FittedClassifier]


def measure(candidate: Candidate, data: TrainingData, folds: Sequence[Fold]) -> Measured:
    """Cross-validate."""
    fit = partial(candidate.fit, data.labelled.targets)
    estimate = cross_validate(candidate.name, fit, data.labelled, folds)
    return Measured(estimate, lambda: estimate.calibration.of(candidate.fit_on_all(data)))


def measure_all(
    candidates: Sequence[Candidate],
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


def linear_candidates(texts: Sequence[str], base: Bundle | None) -> list[Candidate]:
    """N-grams, always the first; the CNN of `base`, alone and with n-grams. Raises BadInput,
    BadBundle.
    """
    words = NgramBlock(texts, "words", 1, 2, weight=0.3)
    characters = NgramBlock(texts, "characters", 1, 5, weight=0.7)
    ngrams = [block for block in (words, characters) if block.ngrams]
    if not ngrams:
        raise BadInput("The texts have no words or characters to learn from.")
    found = [Candidate("n-grams", ngrams)]
    if base is not None:
        cnn = CnnBlock(base, texts)
        name = f"CNN of {base.manifest.name}"
        found += [Candidate(name, [cnn]), Candidate(f"{name} + n-grams", [cnn, *ngrams])]
    return found
