"""Whether a new model may replace the one that is served. Pure.

Both are compared on the same annotations, which neither was fitted on: the difference in log loss of each
text, which says more than right or wrong, and its mean with a one-sided interval by Student's t.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from export.encoders.base import Numbers

SURE = 0.8
"""Probability of the one-sided intervals. A model that is refused by chance gets another chance with the next
annotations; with 0.95, small steps were refused for long.
"""

LEAST = 0.01
"""Least probability of the right label: a single text must not decide."""

OWN = 10
"""Annotations of an annotator from which the model must not be worse for this annotator."""

Rights = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Gain:
    """Mean gain in nats a text, and the ends of its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    accepted: bool
    reason: str
    gain: Gain


def clipped(log_probabilities: Numbers) -> Numbers:
    """Not below log LEAST."""
    found: Numbers = np.maximum(log_probabilities, np.log(LEAST))
    return found


def gain_of(differences: Numbers, groups: npt.NDArray[np.intp]) -> Gain:
    """Of differences float64[annotations]; those of one group (the same text, the same task) count once."""
    _, numbers = np.unique(groups, return_inverse=True)
    means = np.bincount(numbers, differences) / np.bincount(numbers)
    mean = float(means.mean())
    if len(means) < 2:
        return Gain(mean, -np.inf, np.inf)
    half = student.ppf(SURE, len(means) - 1) * float(means.std(ddof=1)) / np.sqrt(len(means))
    return Gain(mean, mean - half, mean + half)


def judge(
    new: Numbers,
    served: Numbers,
    right: tuple[Rights, Rights],
    groups: npt.NDArray[np.intp],
    annotators: Sequence[int],
    served_is: str,
) -> Verdict:
    """`new` and `served` are log probabilities float64[annotations] of the given labels; `right` says which
    of them the new and the served model choose. `served_is` names the served model in the reason.
    """
    differences = clipped(new) - clipped(served)
    gain = gain_of(differences, groups)
    accuracy, before = (float(each.mean()) for each in right)
    figures = (
        f"{accuracy:.2f} right instead of {before:.2f} with {served_is}, of {len(new)} annotations that "
        f"neither has seen; gain in log loss {gain.mean:.2f}, at least {gain.low:.2f}"
    )
    if gain.low <= 0:
        return Verdict(False, f"Not surely better: {figures}.", gain)
    loss = gain_of(right[1].astype(float) - right[0].astype(float), groups)
    if loss.low > 0:
        return Verdict(False, f"Fewer right: {figures}.", gain)
    for annotator, mine in of_annotators(annotators).items():
        if len(mine) >= OWN and gain_of(differences[mine], groups[mine]).high < 0:
            return Verdict(False, f"Worse for annotator {annotator}: {figures}.", gain)
    return Verdict(True, f"Better: {figures}.", gain)


def of_annotators(annotators: Sequence[int]) -> Mapping[int, npt.NDArray[np.intp]]:
    """The indices of each annotator's annotations."""
    numbers = np.array(annotators)
    return {int(each): np.flatnonzero(numbers == each) for each in np.unique(numbers)}
