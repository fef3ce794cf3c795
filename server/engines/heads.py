"""From logits to probabilities."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from server.bundle import Head

Numbers = npt.NDArray[np.floating[Any]]


def softmax(logits: Numbers) -> Numbers:
    """[rows, classes]."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Numbers = raised / raised.sum(axis=1, keepdims=True)
    return probabilities


def sigmoid(logits: Numbers) -> Numbers:
    probabilities: Numbers = 1 / (1 + np.exp(-logits))
    return probabilities


PROBABILITIES: dict[Head, Callable[[Numbers], Numbers]] = {"softmax": softmax, "sigmoid": sigmoid}
