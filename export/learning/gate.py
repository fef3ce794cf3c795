"""The gate: whether a new model replaces the served one, from the same answers given by both.

Pure. Answers to equal texts are one observation, by their mean. The interval is that of a weighted mean
(Cochran 1977, section 6, and Kish 1965 for the effective number), with Student's t. Log losses are bounded,
so that single answers cannot decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from export.encoders.base import Numbers

LEVEL = 0.9
"""Confidence of the one-sided interval (docs/decisions.md)."""

WORSE_LEVEL = 0.95
"""Confidence from which an accuracy counts as lower."""

LEAST_ANSWERS = 10
"""Answers of an annotator from which they are compared alone."""

WORST = float(np.log(1e-3))
"""A log probability counts as at least this."""


@dataclass(frozen=True)
class Compared:
    """The same answers from the new and the served model: log probabilities float64[answers] and whether each
    was right bool[answers]; `weights` float64[answers], positive; `groups` and `annotators` int[answers].
    """

    new: Numbers
    new_right: npt.NDArray[np.bool_]
    served: Numbers
    served_right: npt.NDArray[np.bool_]
    weights: Numbers
    groups: npt.NDArray[np.intp]
    annotators: npt.NDArray[np.intp]

    @property
    def gains(self) -> Numbers:
        """float64[answers], in nats: positive where the new model is better."""
        gains: Numbers = np.maximum(self.new, WORST) - np.maximum(self.served, WORST)
        return gains

    @property
    def right_gains(self) -> Numbers:
        """float64[answers]: 1 where only the new model is right, -1 where only the served one is."""
        return self.new_right.astype(np.float64) - self.served_right


@dataclass(frozen=True)
class Mean:
    """A weighted mean, its standard error, and the degrees of freedom of its t."""

    value: float
    error: float
    freedom: float

    def lower(self, level: float) -> float:
        """The lower end of a one-sided interval."""
        return self.value - float(t.ppf(level, self.freedom)) * self.error

    def upper(self, level: float) -> float:
        return self.value + float(t.ppf(level, self.freedom)) * self.error

    @property
    def interval_95(self) -> tuple[float, float]:
        return self.lower(0.975), self.upper(0.975)


@dataclass(frozen=True)
class Verdict:
    """`informed`: the new model is better than the frequencies of the labels. One that is not, but would
    replace a model that the answers contradict, has learned from random answers. `worse_for` are annotators
    for whose answers the new model is significantly worse.
    """

    accepted: bool
    gain: Mean
    accuracy_gain: Mean
    informed: bool
    worse_for: Sequence[int]


def mean_of(values: Numbers, weights: Numbers, groups: npt.NDArray[np.intp]) -> Mean:
    """Of values float64[answers]: each group counts once, by its mean and its largest weight. With one group
    the error is infinite.
    """
    _, number = np.unique(groups, return_inverse=True)
    means = np.bincount(number, weights * values) / np.bincount(number, weights)
    count = len(means)
    of_groups = np.zeros(count)
    np.maximum.at(of_groups, number, weights)
    total = of_groups.sum()
    value = float(of_groups @ means / total)
    if count < 2:
        return Mean(value, float("inf"), 1.0)
    variance = (of_groups**2 * (means - value) ** 2).sum() * count / (count - 1) / total**2
    effective = total**2 / (of_groups**2).sum()
    return Mean(value, float(np.sqrt(variance)), max(float(effective) - 1, 1.0))


def judge(compared: Compared, frequencies: Numbers) -> Verdict:
    """Accepted if the gain in log loss is above 0 with LEVEL, over the served model and over the
    `frequencies` of the labels (log probabilities float64[answers]), if accuracy is not lower by more than
    noise, and if the new model is not worse for any annotator by more than noise.
    """
    gain = mean_of(compared.gains, compared.weights, compared.groups)
    accuracy_gain = mean_of(compared.right_gains, compared.weights, compared.groups)
    over_frequencies = replace(compared, served=frequencies).gains
    informed = mean_of(over_frequencies, compared.weights, compared.groups).lower(LEVEL) > 0
    numbers, counts = np.unique(compared.annotators, return_counts=True)
    alone: npt.NDArray[np.intp] = numbers[counts >= LEAST_ANSWERS] if len(numbers) > 1 else numbers[:0]
    worse = [
        int(annotator)
        for annotator in alone
        if _is_worse_for(compared, compared.annotators == annotator, len(alone))
    ]
    better = gain.lower(LEVEL) > 0 and accuracy_gain.upper(WORSE_LEVEL) >= 0
    return Verdict(better and informed and not worse, gain, accuracy_gain, informed, worse)


def _is_worse_for(compared: Compared, own: npt.NDArray[np.bool_], annotators: int) -> bool:
    """With a level that takes the number of annotators into account (Bonferroni)."""
    gain, right = (
        mean_of(values[own], compared.weights[own], compared.groups[own])
        for values in (compared.gains, compared.right_gains)
    )
    level = 1 - (1 - WORSE_LEVEL) / annotators
    return gain.upper(level) < 0 or right.upper(level) < 0
