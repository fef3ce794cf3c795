"""Fits the models of a round to all answers, and their stack; what they give each answer is out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.classifier import probabilities_of
from export.encoders.base import Numbers
from export.learning.answers import LEAST_ANSWERS, LEAST_TEXTS, Answers, Truth, balances, right_answers
from export.learning.ridge import EXACT, Answered, Ridge, fit_dual, fit_ridge, kernel_of
from export.learning.stack import Expected, Stack, fit_stack, log_odds, stacked_out_of_fold
from export.learning.text_features import TextFeatures

NEW = Expected(1.5, 0.1)


PRIOR, NEW_WITH_PRIOR = Expected(1.0, 4.0), Expected(0.0, 0.1)
"""Shares of the models in the stack without answers: with the base's answers, these alone."""


@dataclass(frozen=True)
class FittedModels:
    """Of all answers: `probabilities` float64[answers, classes] are out of fold."""

    probabilities: Numbers
    ridges: Sequence[Ridge]
    stack: Stack
    earlier: Sequence[tuple[int, Truth]]
    """(number of answers, right bool[answers]) of models of fewer answers."""


def fit_models(answers: Answers, found: TextFeatures, kernels: Sequence[Numbers], seed: int) -> FittedModels:
    """Ridges per text: the answers of a text have the sum of their weights and the mean of their targets."""
    weights, texts = answers.weights, len(answers.texts)
    of_texts: Numbers = np.bincount(answers.text, weights, minlength=texts).astype(np.float64)
    targets = np.zeros((texts, len(answers.labels)))
    np.add.at(targets, answers.text, np.where(answers.truth, 1.0, -1.0) * weights[:, None])
    targets /= of_texts[:, None]
    groups = np.zeros(texts, dtype=np.intp)
    groups[answers.text] = answers.groups
    answered = Answered(targets, of_texts, groups, balances(answers), seed)
    ridges = [
        fit_ridge(matrix, answered, kernels[i] if kernels else None)
        for i, matrix in enumerate(found.matrices)
    ]
    expected = [NEW if found.base is None else NEW_WITH_PRIOR] * len(ridges)
    logits = [ridge.left_out[answers.text] for ridge in ridges]
    if found.base is not None:
        expected.append(PRIOR)
        logits.append(found.base.logits[answers.text])
    direction = log_odds(answers.truth, answers.weights, answers.head)
    stack = fit_stack(logits, answers.truth, answers.weights, answers.head, expected, direction)
    probabilities = stacked_out_of_fold(
        logits, answers.truth, answers.weights, answers.head, expected, answers.groups
    )
    earlier = []
    for share in (4, 2):
        if texts // share < LEAST_ANSWERS or texts // share > EXACT // 2:
            continue
        # every second or fourth group; the others are predicted
        chosen = groups % share == 0
        if len(np.unique(groups[chosen])) < LEAST_TEXTS:
            continue
        parts = []
        for i, matrix in enumerate(found.matrices):
            parts.append(_from_part(matrix, kernels[i] if kernels else None, answered, chosen))
        if found.base is not None:
            parts.append(found.base.logits)
        values = probabilities_of(stack.apply(parts)[answers.text], answers.head)
        earlier.append((texts // share, right_answers(values, answers)))
    return FittedModels(probabilities, ridges, stack, earlier)


def _from_part(matrix: Any, kernel: Numbers | None, answered: Answered, chosen: Truth) -> Numbers:
    """float64[texts, classes]: logits from the chosen texts, of these without their own group."""
    rows, others = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    kernel = kernel_of(matrix[rows]) if kernel is None else kernel[np.ix_(rows, rows)]
    dual, bias, left_out = fit_dual(kernel, answered.of(rows))
    logits = np.zeros(answered.targets.shape)
    logits[rows] = left_out
    logits[others] = matrix[others] @ (matrix[rows].T @ dual) + bias
    return logits
