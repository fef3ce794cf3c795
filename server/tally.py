"""What a request's predictions were, in numbers small enough to be counted for every request: how often each label, and how certain."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.arrays import Floats
from server.scores import Scores

SCORE_BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper bounds of the score's buckets, each inclusive."""

_BOUNDS = np.array(SCORE_BOUNDS)

Counts = npt.NDArray[np.intp]


@dataclass
class Tally:
    """Of the texts that `version` answered: `by_label` intp[classes] counts the most probable label of each, `by_score` intp[bounds + 1] their scores."""

    version: str
    labels: tuple[str, ...]
    by_label: Counts = field(init=False)
    by_score: Counts = field(init=False)
    score_sum: float = 0.0

    def __post_init__(self) -> None:
        self.by_label = np.zeros(len(self.labels), dtype=np.intp)
        self.by_score = np.zeros(len(_BOUNDS) + 1, dtype=np.intp)

    def add(self, probabilities: Floats, scores: Scores) -> None:
        """Of one text a row: float32[rows, classes], float64[rows]."""
        self.by_label += np.bincount(probabilities.argmax(axis=1), minlength=len(self.by_label))
        self.by_score += np.bincount(_BOUNDS.searchsorted(scores), minlength=len(self.by_score))
        self.score_sum += float(scores.sum())
