"""Annotators of a project: weights that keep any one from outvoting the others, and answers that contradict
all the others'. Pure, given predictions of models of the others' answers.

Agreement is Cohen's kappa (1960), with the large-sample standard error of Fleiss, Cohen and Everitt (1969) in
its simple form √(p(1 - p) / n) / (1 - chance).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from export.encoders.base import Numbers
from server.evaluate.classification_metrics import wilson

LEAST_ANSWERS = 20
"""Answers from which an annotator is judged."""

FULL = 50
"""Answers of an annotator that always have their full weight."""

CHANCE = 0.3
"""Kappa below this, and below half of the others' own, is no better than chance."""

LEVEL = 0.95
"""Of one-sided intervals, all annotators together (Bonferroni)."""

Classes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Agreement:
    """Of predictions with answers: the share that agrees, and kappa with the ends of its interval."""

    answers: int
    share: float
    kappa: float
    low: float
    high: float


@dataclass(frozen=True)
class SetAside:
    """An annotator whose answers are not used, and why, as a sentence. `certain` is False if the
    others may as well be wrong: then the answers are in dispute, and not left out.
    """

    annotator: int
    reason: str
    certain: bool = True


Predict = Callable[[npt.NDArray[np.bool_], npt.NDArray[np.bool_]], Classes]
"""(answers to fit on, answers to predict), bool[answers] → int[answers to predict]. Answers in both are
predicted by a model that was not fitted on their texts.
"""


def agreement(predicted: Classes, answered: Classes, level: float = LEVEL) -> Agreement:
    """With a one-sided interval of this level. Kappa is 0 where one side always says the same."""
    count, z = len(answered), float(norm.ppf(level))
    share = float((predicted == answered).mean())
    classes = int(max(predicted.max(), answered.max())) + 1
    first, second = (np.bincount(each, minlength=classes) / count for each in (predicted, answered))
    chance = float(first @ second)
    if chance > 1 - 1e-9:
        return Agreement(count, share, 0.0, 0.0, 0.0)
    kappa = (share - chance) / (1 - chance)
    # of one more agreement and disagreement, so that it is above 0
    smoothed = (share * count + 1) / (count + 2)
    error = float(np.sqrt(smoothed * (1 - smoothed) / count)) / (1 - chance)
    if len(np.unique(predicted)) == 1 or len(np.unique(answered)) == 1:
        error = 0.0
    return Agreement(count, share, kappa, kappa - z * error, kappa + z * error)


def annotator_weights(annotators: npt.NDArray[np.intp], weights: Numbers) -> Numbers:
    """float64[answers]: `weights`, reduced so that no annotator has more than half of the total, if there are
    several; but FULL answers of each count in full, or else one answer of a second annotator would count as
    much as all of the first. float64[answers] → the same.
    """
    numbers, own = np.unique(annotators, return_inverse=True)
    totals = np.bincount(own, weights)
    if len(numbers) < 2:
        return weights
    largest = int(totals.argmax())
    others = totals.sum() - totals[largest]
    factors = np.ones(len(numbers))
    factors[largest] = min(1.0, max(others, FULL) / totals[largest])
    limited: Numbers = weights * factors[own]
    return limited


def set_aside(
    annotators: npt.NDArray[np.intp],
    answered: Classes,
    predict: Predict,
    served: Classes | None = None,
) -> list[SetAside]:
    """Annotators whose answers a model of the others' predicts no better than chance, the worst first.

    answered int[answers]; `served` int[answers] is what the served model says. The others are those whose
    own answers follow from the texts: constant and random answers do not, and cannot speak against anyone. An
    annotator whose answers do follow from the texts is only set aside against two others, or against one with
    whom the served model agrees.
    """
    counts = {int(each): int((annotators == each).sum()) for each in np.unique(annotators)}
    judged = [each for each, count in counts.items() if count >= LEAST_ANSWERS]
    level, known = 1 - (1 - LEVEL) / max(len(judged), 1), dict[tuple[bytes, bytes], Agreement]()

    def agree(fitted: npt.NDArray[np.bool_], measured: npt.NDArray[np.bool_]) -> Agreement:
        key = fitted.tobytes(), measured.tobytes()
        if key not in known:
            known[key] = agreement(predict(fitted, measured), answered[measured], level)
        return known[key]

    own = {each: agree(annotators == each, annotators == each) for each in judged}
    consistent = {each for each in judged if own[each].low > 0}
    found: dict[int, SetAside] = {}
    while True:
        worst: tuple[float, SetAside] | None = None
        for each in (each for each in judged if each not in found):
            others = sorted(consistent - {each} - set(found))
            case = _against(each, others, each in consistent, annotators, answered, agree, served)
            if case is not None and (worst is None or _order(case) < _order(worst)):
                worst = case
        if worst is None:
            return list(found.values())
        found[worst[1].annotator] = worst[1]
        if not worst[1].certain:
            return list(found.values())


def _against(
    annotator: int,
    others: Sequence[int],
    follows_texts: bool,
    annotators: npt.NDArray[np.intp],
    answered: Classes,
    agree: Callable[[npt.NDArray[np.bool_], npt.NDArray[np.bool_]], Agreement],
    served: Classes | None,
) -> tuple[float, SetAside] | None:
    """(upper end of kappa, the case) against this annotator, if there is one."""
    if not others:
        return None
    mine, theirs = annotators == annotator, np.isin(annotators, others)
    between, among = (agree(theirs, each) for each in (mine, theirs))
    if among.low <= 0 or between.high >= min(CHANCE, among.kappa / 2):
        return None
    if wilson(round(between.share * between.answers), between.answers)[1] >= among.share:
        return None
    certain = not follows_texts or len(others) > 1
    if not certain and served is not None:
        with_mine, with_theirs = (agreement(served[each], answered[each]) for each in (mine, theirs))
        if with_mine.low > max(with_theirs.high, 0):
            return None  # the others' case
        certain = with_theirs.low > max(with_mine.high, 0)
    reason = (
        f"a model of the others' answers is right for {between.share:.0%} of the {between.answers} answers "
        f"(kappa {between.kappa:.2f}, at most {between.high:.2f}), but for {among.share:.0%} of "
        "the others' own"
    )
    return between.high, SetAside(annotator, reason, certain)


def _order(case: tuple[float, SetAside]) -> tuple[bool, float]:
    """Certain cases first, then the worst."""
    return not case[1].certain, case[0]


def one_label(labels: Sequence[tuple[str, ...]], served_right: npt.NDArray[np.bool_]) -> str | None:
    """The label that nearly all answers of one annotator have, if the served model disagrees with most of
    them. `labels` are those of each answer; served_right bool[answers].
    """
    if len(labels) < 30:
        return None
    counts: Mapping[tuple[str, ...], int] = {each: labels.count(each) for each in set(labels)}
    label = max(sorted(counts), key=lambda each: counts[each])
    if counts[label] < 0.95 * len(labels) or served_right.mean() > 0.5:
        return None
    return ", ".join(label)
