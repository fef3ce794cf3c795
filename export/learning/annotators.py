"""Annotators whose answers do not depend on the text, or contradict all others. Pure.

Agreement is Cohen's κ (1960), which is 0 for answers by chance, and for those that are always the same. Its
interval is that of Fleiss, Cohen and Everitt (1969) in its simple form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Classes = npt.NDArray[np.intp]
Rows = npt.NDArray[np.intp]

Predict = Callable[[Rows, Rows], Classes | None]
"""(rows to fit on, rows to predict) → their classes, by a model that is fitted on the first and, where they
overlap, by cross-validation; None if nothing can be fitted.
"""

LEAST = 20
"""Annotations from which an annotator is looked at."""

CHANCE = 0.1
"""κ below which there is no agreement."""

Z = 1.645
"""Of the two-sided 90 % interval."""


@dataclass(frozen=True)
class Agreement:
    kappa: float
    low: float
    high: float


def kappa(one: Classes, other: Classes) -> Agreement:
    """Of two raters, int[texts] each."""
    observed = float((one == other).mean())
    size = int(max(one.max(), other.max())) + 1
    shares = [np.bincount(each, minlength=size) / len(each) for each in (one, other)]
    expected = float(shares[0] @ shares[1])
    if expected >= 1:
        return Agreement(0.0, 0.0, 0.0)
    value = (observed - expected) / (1 - expected)
    error = np.sqrt(observed * (1 - observed) / len(one)) / (1 - expected)
    return Agreement(value, value - Z * error, value + Z * error)


def set_aside(annotators: Mapping[int, Rows], given: Classes, predict: Predict) -> dict[int, str]:
    """Annotators whose answers are not learned from, and why. `annotators` has the rows of each, `given` the
    class of each row. A single annotator is never set aside: there are no others to learn from.
    """
    looked_at = {each: rows for each, rows in annotators.items() if len(rows) >= LEAST}
    if len(annotators) < 2 or not looked_at:
        return {}
    own = {each: _agreement(rows, rows, given, predict) for each, rows in looked_at.items()}
    informative = {each for each, found in own.items() if found is not None and found.high >= CHANCE}
    if not any(found is not None and found.low > CHANCE for found in own.values()):
        return {}  # nothing can be learned from anybody yet
    aside = {
        each: _reason("do not depend on the text", found)
        for each, found in own.items()
        if each not in informative
    }
    if len(informative) < 3:
        return aside  # of two, it is not clear which is wrong
    for each in informative:
        others = np.sort(np.concatenate([looked_at[other] for other in informative - {each}]))
        found = _agreement(others, looked_at[each], given, predict)
        if found is not None and found.high < CHANCE:
            aside[each] = _reason("contradict those of the others", found)
    return aside if len(aside) < len(annotators) else {}


def _agreement(fitted: Rows, rows: Rows, given: Classes, predict: Predict) -> Agreement | None:
    """None where no model can be fitted: of answers that are all the same, κ is 0."""
    if len(np.unique(given[fitted])) < 2:
        return Agreement(0.0, 0.0, 0.0)
    predicted = predict(fitted, rows)
    return None if predicted is None else kappa(predicted, given[rows])


def _reason(what: str, found: Agreement | None) -> str:
    figures = "" if found is None else f" (κ {found.kappa:.2f}, at most {found.high:.2f})"
    return f"the answers {what}{figures}"


def constant(
    labels: Sequence[tuple[str, ...]], share: float = 0.95, least: int = 30
) -> tuple[str, ...] | None:
    """The labels that nearly all of at least `least` annotations have."""
    if len(labels) < least:
        return None
    most = max(set(labels), key=labels.count)
    return most if labels.count(most) >= share * len(labels) else None
