"""What a request's predictions were, in numbers small enough to be counted for every request: how often each
label, and how certain.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

from server.arrays import Floats
from server.scoring import Scores

SCORE_BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper bounds of the score's buckets, each inclusive."""


@dataclass
class PredictionStats:
    """Of the texts that `version` answered: `by_label` counts the most probable label of each, `by_score`
    scores by bucket, the last beyond all bounds.
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
        """Of one text a row: float32[rows, classes], float64[rows]. For a piece of a request: most have one
        row, for which arrays cost more than they count.
        """
        for best in probabilities.argmax(axis=1).tolist():
            self.by_label[best] += 1
        for score in scores.tolist():
            self.by_score[bisect_left(SCORE_BOUNDS, score)] += 1
            self.score_sum += score
