"""Metrics of probabilities against true classes, from running sums, so that a file of any size streams
through.

Sources: Wilson (1927) for the interval of a proportion; Guo et al. (2017), "On Calibration of Modern Neural
Networks", for the expected calibration error and the reliability diagram.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.arrays import Floats

BINS = 15
"""Bins of equal width in confidence, as in Guo et al."""


@dataclass
class ClassificationMetrics:
    """Sums over the rows added so far. `classes` is the number of classes."""

    classes: int
    confusion: npt.NDArray[np.int64] = field(init=False)
    """Rows by [true class, predicted class]."""
    bin_rows: npt.NDArray[np.int64] = field(init=False)
    bin_right: npt.NDArray[np.int64] = field(init=False)
    bin_confidence: npt.NDArray[np.float64] = field(init=False)
    """Rows, correct rows and summed confidence, by bin of confidence."""
    log_loss_sum: float = 0.0

    def __post_init__(self) -> None:
        self.confusion = np.zeros((self.classes, self.classes), dtype=np.int64)
        self.bin_rows, self.bin_right = np.zeros(BINS, dtype=np.int64), np.zeros(BINS, dtype=np.int64)
        self.bin_confidence = np.zeros(BINS)

    def add(self, probabilities: Floats, truth: npt.NDArray[np.int64]) -> None:
        """probabilities float32[rows, classes], truth int64[rows]."""
        predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1).astype(np.float64)
        np.add.at(self.confusion, (truth, predicted), 1)
        bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        np.add.at(self.bin_rows, bins, 1)
        np.add.at(self.bin_right, bins, predicted == truth)
        np.add.at(self.bin_confidence, bins, confidence)
        of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
        self.log_loss_sum -= float(np.log(np.maximum(of_truth, 1e-12)).sum())

    @property
    def rows(self) -> int:
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """Correct rows."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        return self.right / self.rows

    @property
    def log_loss(self) -> float:
        """Mean negative log-likelihood of the true class, in nats."""
        return self.log_loss_sum / self.rows

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """By class: correct rows / rows predicted as the class; 0 if there are none."""
        return ratio(self.confusion.diagonal(), self.confusion.sum(axis=0))

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """By class: correct rows / rows of the class; 0 if there are none."""
        return ratio(self.confusion.diagonal(), self.confusion.sum(axis=1))

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """By class: the harmonic mean of precision and recall."""
        return ratio(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def calibration_error(self) -> float:
        """ECE: Σ over bins of (rows in the bin / rows) · |accuracy − mean confidence|."""
        return float(np.abs(self.bin_right - self.bin_confidence).sum() / self.rows)


def wilson(right: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of the proportion right / rows (rows > 0), by Wilson's score."""
    z = 1.959964
    share, spread = right / rows, z * z / rows
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / rows + spread / (4 * rows)) / (1 + spread)
    return middle - half, middle + half


def ratio(
    parts: npt.NDArray[np.int64] | npt.NDArray[np.float64],
    wholes: npt.NDArray[np.int64] | npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """parts / wholes; 0 where the whole is 0."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)
