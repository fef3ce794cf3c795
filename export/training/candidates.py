"""Candidates of a training run: blocks of features under one head, and how good each is."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from export.classifier import FittedClassifier
from export.encoders.base import Numbers
from export.encoders.transformer import HEAD, FittedTransformer
from export.training.blocks import (
    Bar,
    Block,
    CnnBlock,
    DenseBlock,
    NgramBlock,
    Rows,
    TransformerBlock,
    no_bar,
)
from export.training.evidence import Estimate, Fold, cross_validate
from export.training.linear_head import Targets, fit_head
from export.training.training_data import TrainingData
from server.arrays import Floats
from server.bundle import Bundle
from server.encoders.cnn.encoder import CnnEncoder
from server.encoders.transformer.encoder import transformer_of
from server.engines.onnx_file import read_tensors
from server.errors import BadBundle, BadInput


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
    `classifier`, whose features are those of `blocks`.
    """

    name: str
    blocks: Sequence[Block]
    classifier: FittedClassifier
    logits: Numbers

    def fit(self, targets: Targets, rows: Rows) -> Callable[[Rows], Numbers]:  # noqa: ARG002 - as Candidate
        return lambda others: self.logits[others]

    def fit_on_all(self, data: TrainingData) -> FittedClassifier:  # noqa: ARG002
        return self.classifier


@dataclass(frozen=True)
class Measured:
    """The estimate of a candidate, what fits it on all texts, calibrated, and the blocks under its head."""

    estimate: Estimate
    fit_on_all: Callable[[], FittedClassifier]
    blocks: Sequence[Block] = ()


def measure(candidate: Candidate | Unchanged, data: TrainingData, folds: Sequence[Fold]) -> Measured:
    """Cross-validate."""
    fit = partial(candidate.fit, data.labelled.targets)
    estimate = cross_validate(candidate.name, fit, data.labelled, folds)
    return Measured(estimate, lambda: estimate.calibration.of(candidate.fit_on_all(data)), candidate.blocks)


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


def with_and_without_ngrams(name: str, block: Block, ngrams: Candidate) -> list[Candidate]:
    return [Candidate(name, [block]), Candidate(f"{name} + n-grams", [block, *ngrams.blocks])]


def candidates_from(
    base: Bundle, data: TrainingData, ngrams: Candidate, bar: Bar = no_bar
) -> list[Candidate | Unchanged]:
    """The CNN or transformer of `base` under a new head, alone and with n-grams, and `base` as it is if it
    has the labels of `data`. `bar` is for the texts that a transformer reads. Raises BadBundle.
    """
    name, block = _block_of(base, data.texts, bar)
    found: list[Candidate | Unchanged] = [*with_and_without_ngrams(name, block, ngrams)]
    if set(base.labels) == set(data.labels) and (base.manifest.head, len(base.encoders)) == ("softmax", 1):
        classifier, head = classifier_of(base, block, data.labels)
        logits = block.values @ head.astype(np.float64) + classifier.head_bias
        found.append(Unchanged(f"{base.manifest.name} as it is", [block], classifier, logits))
    return found


def _block_of(bundle: Bundle, texts: Sequence[str], bar: Bar) -> tuple[str, DenseBlock]:
    """The features of a bundle's transformer, or else of its CNN, and the name of these."""
    if (transformer := transformer_of(bundle.encoders)) is not None:
        no_head = np.zeros((transformer.spec.features, 1), dtype=np.float32)
        block = TransformerBlock(FittedTransformer.of(bundle, no_head), texts, bar)
        return f"transformer of {bundle.manifest.name}", block
    if any(isinstance(encoder, CnnEncoder) for encoder in bundle.encoders):
        return f"CNN of {bundle.manifest.name}", CnnBlock(bundle, texts)
    raise BadBundle(f"{bundle.path}: the bundle has no CNN and no transformer; choose one that has.")


def classifier_of(
    bundle: Bundle, block: DenseBlock, labels: tuple[str, ...]
) -> tuple[FittedClassifier, Floats]:
    """A bundle of one encoder, which `block` has, with its labels in this order; and its head
    float32[features, classes].
    """
    tensors = read_tensors(bundle)
    columns = [bundle.labels.index(label) for label in labels]
    name = HEAD if isinstance(block.network, FittedTransformer) else "head"
    head = np.ascontiguousarray(tensors[name][:, columns], dtype=np.float32)
    bias = tensors["head_bias"][columns].astype(np.float32)
    encoders = [block.network.with_head(head)]
    return FittedClassifier(labels, encoders, bias, temperature=bundle.manifest.temperature), head
