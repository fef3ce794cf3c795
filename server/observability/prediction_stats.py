"""Label counts and a score histogram for the predictions of one request."""

from bisect import bisect_left
from dataclasses import dataclass, field

from server.arrays import Floats
from server.scoring import Scores

SCORE_BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Inclusive upper bounds of the score buckets."""


@dataclass
class PredictionStats:
    """Counts for the texts predicted by `version`. `by_label`: texts per most probable label; `by_score`:
    texts per score bucket, the last one for scores above all bounds.
    """

    version: str
    labels: tuple[str, ...]
    by_label: list[int] = field(init=False)
    by_score: list[int] = field(init=False)
    score_sum: float = 0.0

    def __post_init__(self) -> None:
        self.by_label = [0] * len(self.labels)
        self.by_score = [0] * (len(SCORE_BOUNDS) + 1)

    def add(self, probabilities: Floats, scores: Scores) -> None:
        """Add one micro-batch: probabilities float32[rows, classes], scores float64[rows]. A plain loop,
        because most micro-batches have one row, for which NumPy is slower.
        """
        for best in probabilities.argmax(axis=1).tolist():
            self.by_label[best] += 1
        for score in scores.tolist():
            self.by_score[bisect_left(SCORE_BOUNDS, score)] += 1
            self.score_sum += score
