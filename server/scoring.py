"""Prediction scores: the certainty of a prediction as one number. Label Studio sorts and samples by it,
lowest first.

    confidence   max p              probability of the best class, as in the tutorial: 1/K … 1
    margin       p₁ − p₂            difference between the two best classes: 0 … 1
    entropy      1 − H(p) / ln K    with H(p) = −Σ p ln p: 0 if all K classes are equal, 1 for certainty

All three are in [0, 1] and rise with certainty. With two classes they give the same order, with more classes
they differ. They are the measures for uncertainty sampling in Settles (2009), "Active Learning Literature
Survey", §3.1.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from server.arrays import Floats

Score: TypeAlias = Literal["confidence", "margin", "entropy"]

SCORES: tuple[Score, ...] = get_args(Score)

Scores: TypeAlias = npt.NDArray[np.float64]


def scores_of(probabilities: Floats, score: Score) -> Scores:
    """Scores in [0, 1], float64[rows], of probabilities float32[rows, classes]."""
    exact = probabilities.astype(np.float64)
    match score:
        case "confidence":
            values = exact.max(axis=1)
        case "margin":
            best_two = np.partition(exact, -2, axis=1)[:, -2:]
            values = best_two[:, 1] - best_two[:, 0]
        case "entropy":
            logs = np.log(exact, where=exact > 0, out=np.zeros_like(exact))
            values = 1 + (exact * logs).sum(axis=1) / np.log(exact.shape[1])
    within: Scores = np.clip(values, 0.0, 1.0)
    return within


@dataclass(frozen=True)
class Scoring:
    """How probabilities become a prediction. `threshold` is the minimum probability of a label where a
    prediction may have several.
    """

    score: Score = "confidence"
    threshold: float = 0.5

    def version(self, bundle_version: str) -> str:
        """The model version of the predictions. Any other scoring than the default is part of it, so that
        Label Studio requests new predictions after a change and never sorts two kinds of scores together.
        """
        score = "" if self.score == DEFAULT_SCORING.score else f"-{self.score}"
        threshold = "" if self.threshold == DEFAULT_SCORING.threshold else f"-t{self.threshold:g}"
        return f"{bundle_version}{score}{threshold}"


DEFAULT_SCORING = Scoring()
