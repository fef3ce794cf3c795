"""Whether more answers would still help, and how many tasks a model could answer alone. Pure.

The threshold is the lowest of a sequence that is tested from the highest confidence down until one fails, so
that the error rate holds for the one that is found: fixed-sequence testing (Angelopoulos et al. 2021, "Learn
then Test"). Each test is the bound of Clopper and Pearson (1934).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from export.encoders.base import Numbers
from export.learning.gate import Mean

LEVEL = 0.95
STEP = 1.1
"""Each threshold of the sequence is for this many times the answers of the one before."""

WORTH = 0.02
"""A gain in accuracy from twice the answers that is still worth them."""


@dataclass(frozen=True)
class AutoAccept:
    """`share` of the answers have a confidence of at least `confidence`, and at most the chosen share of
    these is wrong. Without such a threshold `confidence` is None.
    """

    share: float
    confidence: float | None
    errors_at_most: float | None


def most_errors(wrong: int, answers: int, level: float = LEVEL) -> float:
    """Upper bound of an error rate."""
    return 1.0 if wrong >= answers else float(beta.ppf(level, wrong + 1, answers - wrong))


def auto_accept(confidences: Numbers, right: npt.NDArray[np.bool_], errors: float = 0.05) -> AutoAccept:
    """For answers that the model was not fitted on: confidences float64[answers], right bool[answers]."""
    answers = len(confidences)
    order = np.argsort(-confidences, kind="stable")
    sorted_confidences, wrong = confidences[order], np.cumsum(~right[order])
    count = int(np.ceil(np.log(1 - LEVEL) / np.log(1 - errors)))  # the fewest that can pass
    found = AutoAccept(0.0, None, None)
    while count <= answers:
        # all answers of equal confidence are accepted together
        end = int(np.searchsorted(-sorted_confidences, -sorted_confidences[count - 1], side="right"))
        bound = most_errors(int(wrong[end - 1]), end)
        if bound > errors:
            break
        found = AutoAccept(end / answers, float(sorted_confidences[end - 1]), bound)
        if count == answers:
            break
        count = min(answers, max(int(np.ceil(count * STEP)), end))
    return found


def advice(answers: int, gain: Mean | None, accepted: AutoAccept, errors: float = 0.05) -> tuple[bool, str]:
    """(whether accuracy has levelled off, a sentence); `gain` is that of accuracy from half of the answers to
    all of them.
    """
    share = (
        f"The model could answer {accepted.share:.0%} of the tasks with at most {errors:.0%} errors."
        if accepted.confidence is not None
        else f"No share of the tasks is proven to have at most {errors:.0%} errors yet."
    )
    if gain is None or not np.isfinite(gain.error):
        return False, f"Too few answers for a learning curve. {share}"
    low, high = gain.lower(0.9), gain.upper(0.9)
    if high < WORTH:
        sentence = (
            f"Accuracy has levelled off: the last {answers - answers // 2} answers changed it by "
            f"{gain.value:+.3f}, {high:+.3f} at most."
        )
        return True, f"{sentence} {share}"
    still = "still grows" if low > 0 else "may still grow"
    sentence = f"Accuracy {still}: the last {answers - answers // 2} answers changed it by {gain.value:+.3f}."
    return False, f"{sentence} {share}"
