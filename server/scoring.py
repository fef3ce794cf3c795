"""How certain a prediction is, as the one number by which Label Studio sorts and samples, the lowest first.

    confidence   max p              the probability of the chosen class, as in the tutorial: 1/K … 1
    margin       p₁ − p₂            how far the best class is ahead of the second: 0 … 1
    entropy      1 − H(p) / ln K    with H(p) = −Σ p ln p: 0 for a guess among K classes, 1 for certainty

All three rise with certainty and lie in [0, 1]; for two classes they sort alike, for more they differ in what
they call uncertain. They are the measures of uncertainty sampling in Settles (2009), "Active Learning
Literature Survey", §3.1.
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
    """Numbers in [0, 1], float64[rows], from probabilities float32[rows, classes]."""
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
    """How probabilities become a prediction: what its score is, and from which probability on a choice of
    several is taken.
    """

    score: Score = "confidence"
    threshold: float = 0.5

    def version(self, bundle_version: str) -> str:
        """The model version of such predictions: Label Studio never sorts two kinds together, and asks anew
        after a change.
        """
        kind = "" if self.score == "confidence" else f"-{self.score}"
        return (
            bundle_version
            + kind
            + ("" if self.threshold == DEFAULT_SCORING.threshold else f"-t{self.threshold:g}")
        )


DEFAULT_SCORING = Scoring()
