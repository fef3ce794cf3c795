"""When further annotations no longer pay, and which predictions need none. Pure."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from scipy.stats import beta

from export.encoders.base import Numbers
from export.learning.gate import Rights

ROUNDS = 3
"""Rounds before anything is said of the next annotations."""

POINT = 0.01
"""The gain in accuracy that annotations are counted for."""

MANY = 0.5
"""From this share of the annotations so far, for one point of accuracy, further ones do not pay."""

SURE = 0.95


class Advice(TypedDict):
    """`more` annotations would add about a point of accuracy, None if that is not known or never happens."""

    more: int | None
    stop: bool
    sentence: str


class AutoAccept(TypedDict):
    """Predictions of at least `confidence` are wrong in at most the chosen share, with 95 % probability;
    `share` of all are.
    """

    confidence: float | None
    share: float
    errors: float


def advise(curve: Sequence[tuple[int, float]]) -> Advice:
    """From (annotations, accuracy on those not seen) of each round, the oldest first. The error falls as a
    power of the number of annotations, so a line through their logarithms says how fast.
    """
    points = [(number, 1 - accuracy) for number, accuracy in curve if number > 0 and accuracy < 1]
    if len({number for number, _ in points}) < ROUNDS:
        return {
            "more": None,
            "stop": False,
            "sentence": "It is too early to say what further annotations add.",
        }
    numbers, errors = np.log(np.array(points)).T
    slope = float(np.polyfit(numbers, errors, 1)[0])
    number, error = points[-1]
    if slope >= 0 or error <= POINT:
        return {
            "more": None,
            "stop": True,
            "sentence": "The last rounds became no more accurate: further annotations do not pay.",
        }
    more = int(np.ceil(number * ((1 - POINT / error) ** (1 / slope) - 1)))
    stop = more > MANY * number
    advice = "they hardly pay" if stop else "they pay"
    return {
        "more": more,
        "stop": stop,
        "sentence": f"About {more:,} more annotations add one point of accuracy: {advice}.",
    }


def auto_accept(confidence: Numbers, right: Rights, errors: float = 0.05) -> AutoAccept:
    """From the confidence float64[texts] in predictions that the model was not fitted on, and whether they
    are right. The upper end of the error is that of Clopper and Pearson (1934).
    """
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~right[order])
    taken = np.arange(1, len(order) + 1)
    upper = beta.ppf(SURE, wrong + 1, np.maximum(taken - wrong, 1e-9))
    # predictions of the same confidence are accepted together
    last = np.append(np.diff(confidence[order]) != 0, True)
    fits = np.flatnonzero((upper <= errors) & last)
    if not len(fits):
        return {"confidence": None, "share": 0.0, "errors": errors}
    most = int(fits[-1])
    return {
        "confidence": float(confidence[order][most]),
        "share": (most + 1) / len(order),
        "errors": errors,
    }
