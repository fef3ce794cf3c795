"""Why a model is accepted or refused, as a sentence."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from export.learning.annotators import SetAside, one_label
from export.learning.answers import (
    Answers,
)
from export.learning.gate import LEVEL, Compared, Verdict, mean_of
from export.learning.served_model import Served
from server.bundle import Bundle

TO_REPLACE_BASE = 100
"""Texts with an answer from which the server's own model may be replaced where it has the project's labels. A
simulated project with fewer went from 0.912 to 0.879 with tasks in the order of uncertainty.
"""


def reason_of(compared: Compared, verdict: Verdict, served: Served | None) -> str:
    new, old = (
        mean_of(right.astype(np.float64), compared.weights, compared.groups).value
        for right in (compared.new_right, compared.served_right)
    )
    unseen = (
        "that neither has seen" if served else "that it has not seen, compared with the most frequent label"
    )
    gain = verdict.gain
    sentence = (
        f"{new:.2f} instead of {old:.2f} of {len(compared.new)} answers {unseen}; "
        f"gain in log loss {gain.value:.2f}, at least {gain.lower(LEVEL):.2f}"
    )
    if not verdict.informed and served is not None:
        sentence += (
            "; but no better than the frequencies of the labels: the answers do not follow from the texts"
        )
    elif verdict.worse_for:
        sentence += f"; worse for annotator {', '.join(map(str, verdict.worse_for))}"
    elif not verdict.accepted and gain.lower(LEVEL) > 0:
        sentence += f"; the accuracy is lower by {-verdict.accuracy_gain.value:.2f}"
    return f"{sentence}."


def dispute(cases: Sequence[SetAside]) -> str | None:
    for each in cases:
        if not each.certain:
            return (
                f"the answers of annotator {each.annotator} and of the others contradict each other, and no "
                f"third annotator and no served model shows who is right: {each.reason}."
            )
    return None


def one_label_only(answers: Answers, compared: Compared, served: Served | None) -> str | None:
    if served is None or len(np.unique(answers.annotators)) > 1:
        return None
    label = one_label([each.labels for each in answers.annotations], compared.served_right)
    if label is None:
        return None
    return (
        f"nearly all of the {len(answers.annotations)} answers, all of one annotator, are {label}, and the "
        "served model disagrees with most of them; a second annotator would show who is right."
    )


def too_few_to_replace(answers: Answers, base: Bundle, served: Served | None) -> str | None:
    """The answers are to chosen tasks, those that the served model is unsure of: few of them are no sample of
    the project, by which a model that was trained on far more may be replaced.
    """
    if served is None or served.bundle.version != base.version or len(answers.texts) >= TO_REPLACE_BASE:
        return None
    return (
        f"the server's model has the labels of the project and was trained on more: it stays until "
        f"{TO_REPLACE_BASE} texts have answers, and {len(answers.texts)} have."
    )


def too_early(answers: Answers, compared: Compared, served: Served | None) -> str | None:
    """A first model must surely be right more often than one that always gives the most frequent labels: no
    prediction is better than such a one.
    """
    if served is not None:
        return None
    counts = Counter[tuple[str, ...]]()
    for each, weight in zip(answers.annotations, answers.weights, strict=True):
        counts[each.labels] += weight
    always = counts.most_common(1)[0][1] / answers.weights.sum()
    right = mean_of(compared.new_right.astype(np.float64), answers.weights, answers.groups)
    if right.lower(0.975) > always:
        return None
    return (
        f"too early for predictions: {right.value:.2f} of {len(compared.new)} answers are right (at least "
        f"{max(right.lower(0.975), 0):.2f}), and always giving the most frequent label is right for "
        f"{always:.2f}."
    )
