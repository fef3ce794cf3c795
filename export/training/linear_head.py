"""The head: ridge regression on ±1 targets, with classes of equal weight.

Of logistic regression, linear support vectors, naive Bayes and centroids, ridge was the best for n-grams from
50 to 4,000 texts in English, German and Japanese, and with a sentence encoder it is as good as the best
(docs/training.md). scikit-learn fits it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import hstack, issparse
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from export.classifier import FittedClassifier
from export.encoders.base import Numbers
from export.training.blocks import Block, FittedBlock, Rows
from server.arrays import Floats
from server.bundle import Head

PENALTY = 1.0
"""Ridge's α for features of length 1."""

Targets = npt.NDArray[np.float32]
"""±1 [texts, classes]: whether a text has the label."""


@dataclass(frozen=True)
class FittedHead:
    """`weights` float32[all features, classes] and `bias` float32[classes] over the features of `blocks`."""

    blocks: Sequence[FittedBlock]
    weights: Floats
    bias: Floats

    def logits(self, rows: Rows) -> Numbers:
        """float64[rows, classes]."""
        logits: Numbers = _features(self.blocks, rows) @ self.weights + self.bias
        return logits.astype(np.float64)

    def classifier(self, labels: tuple[str, ...], head: Head) -> FittedClassifier:
        encoders, bias, begin = [], self.bias, 0
        for block in self.blocks:
            size = block.features(np.zeros(1, dtype=np.intp)).shape[1]
            encoder, added = block.encoder(self.weights[begin : begin + size])
            encoders.append(encoder)
            bias = (bias + added).astype(np.float32)
            begin += size
        return FittedClassifier(labels, encoders, bias, head)


def fit_head(blocks: Sequence[Block], targets: Targets, rows: Rows) -> FittedHead:
    """Fit the blocks and the head on these rows of the texts."""
    fitted = [block.fit(rows) for block in blocks]
    features, wanted = _features(fitted, rows), targets[rows]
    one_of_two = wanted.shape[1] == 2 and bool((wanted.sum(axis=1) == 0).all())
    ridge = Ridge(alpha=PENALTY, solver="sparse_cg" if issparse(features) else "cholesky")
    # on busy cores, threads that wait for each other took three to ten times as long as one
    with threadpool_limits(1):
        ridge.fit(features, wanted[:, 1] if one_of_two else wanted, sample_weight=balanced(wanted))
    weights, bias = np.atleast_2d(ridge.coef_).T, np.atleast_1d(ridge.intercept_)
    if one_of_two:  # the other column is its negative
        weights, bias = np.hstack([-weights, weights]), np.hstack([-bias, bias])
    return FittedHead(fitted, weights.astype(np.float32), bias.astype(np.float32))


def balanced(targets: Targets) -> npt.NDArray[np.float64]:
    """Weights of the texts, by which all labels count the same; 1 for texts with several labels or none."""
    classes, one = targets.argmax(axis=1), (targets > 0).sum(axis=1) == 1
    counts = np.bincount(classes[one], minlength=targets.shape[1])
    weights = len(classes) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    if not one.all():
        return np.ones(len(classes))
    of_texts: npt.NDArray[np.float64] = weights[classes]
    return of_texts


def _features(blocks: Sequence[FittedBlock], rows: Rows) -> Any:
    """[rows, all features], sparse if one of the blocks is."""
    parts = [block.features(rows) for block in blocks]
    if len(parts) == 1:
        return parts[0]
    return hstack(parts, format="csr") if any(map(issparse, parts)) else np.hstack(parts)
