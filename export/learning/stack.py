"""Combines the logits of several models of the same labels into calibrated probabilities.

logits = Σ share_k · logits_k + shift · log odds of the labels, with shares ≥ 0: "stacking" (Wolpert 1992;
Breiman 1996 for shares ≥ 0), here with temperature scaling (Guo et al. 2017) as its case of one model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from export.classifier import probabilities_of
from export.encoders.base import Numbers
from export.learning.ridge import folds_of
from server.bundle import Head

MOST = 20.0
"""Bound of a share: it would diverge if all answers were right."""

FOLDS = 5


@dataclass(frozen=True)
class Expected:
    """What shares are without answers, and how many nats it costs to be 1 away from it."""

    share: float
    cost: float


@dataclass(frozen=True)
class Stack:
    """`shares` of the models, and the `bias` float64[classes] that is added."""

    shares: tuple[float, ...]
    bias: Numbers

    def apply(self, logits: Sequence[Numbers]) -> Numbers:
        """float64[rows, classes] of each model → the same, combined."""
        combined: Numbers = self.bias + sum(
            share * each for share, each in zip(self.shares, logits, strict=True)
        )
        return combined


def log_odds(truth: npt.NDArray[np.bool_], weights: Numbers, head: Head) -> Numbers:
    """float64[classes]: logarithms of the labels' shares, centred; of their odds with a sigmoid. Half an
    answer is added to each.
    """
    counts = weights @ truth + 0.5
    if head == "sigmoid":
        odds: Numbers = np.log(counts / (weights.sum() + 1 - counts))
        return odds
    logarithms = np.log(counts)
    centred: Numbers = logarithms - logarithms.mean()
    return centred


def fit_stack(
    logits: Sequence[Numbers],
    truth: npt.NDArray[np.bool_],
    weights: Numbers,
    head: Head,
    expected: Sequence[Expected],
    direction: Numbers,
) -> Stack:
    """The shares with the least weighted log loss, and the shift along `direction` float64[classes]."""
    rows = np.stack([*logits, np.broadcast_to(direction, truth.shape)])
    start = np.array([*(each.share for each in expected), 0.0])
    costs = np.array([*(each.cost for each in expected), 2.0])

    def loss(parameters: Numbers) -> tuple[float, Numbers]:
        probabilities = probabilities_of(np.tensordot(parameters, rows, 1).astype(np.float64), head)
        likelihood = np.where(truth, probabilities, 1 - probabilities if head == "sigmoid" else 1.0)
        value = -weights @ np.log(np.maximum(likelihood, 1e-12)).sum(axis=1)
        slopes = ((probabilities - truth) * weights[:, None] * rows).sum(axis=(1, 2))
        away = parameters - start
        return float(value + costs @ away**2), slopes + 2 * costs * away

    bounds = [(0.0, MOST)] * len(logits) + [(-3.0, 3.0)]
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    # rounded: the last digits depend on the order of sums
    rounded = np.round(found, 6)
    return Stack(tuple(map(float, rounded[:-1])), rounded[-1] * direction)


def stacked_out_of_fold(
    logits: Sequence[Numbers],
    truth: npt.NDArray[np.bool_],
    weights: Numbers,
    head: Head,
    expected: Sequence[Expected],
    groups: npt.NDArray[np.intp],
) -> Numbers:
    """float64[rows, classes]: the probabilities of each row, with shares that other groups give."""
    folds = folds_of(groups, FOLDS)
    combined = np.zeros(truth.shape)
    for fold in np.unique(folds):
        held_out = folds == fold
        fitted = ~held_out
        direction = log_odds(truth[fitted], weights[fitted], head)
        stack = fit_stack(
            [each[fitted] for each in logits], truth[fitted], weights[fitted], head, expected, direction
        )
        combined[held_out] = stack.apply([each[held_out] for each in logits])
    return probabilities_of(combined, head)
