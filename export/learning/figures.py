"""The figures of a round, for JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.encoders.base import Numbers
from export.learning.annotators import SetAside
from export.learning.answers import (
    Answers,
)
from export.learning.fitted_models import FittedModels
from export.learning.gate import LEVEL, Compared, Mean, Verdict, mean_of
from export.learning.served_model import Served
from export.learning.stopping import advice, auto_accept
from server.bundle import Head


def figures_of(
    answers: Answers,
    fit: FittedModels,
    compared: Compared,
    verdict: Verdict,
    gone: Sequence[SetAside],
    served: Served | None,
) -> dict[str, Any]:
    weights, groups = answers.weights, answers.groups

    def figure(values: npt.NDArray[Any], least: float, most: float) -> dict[str, Any]:
        return _mean_figure(mean_of(values.astype(np.float64), weights, groups), least, most)

    accepted = auto_accept(_confidences(fit.probabilities, answers.head), compared.new_right)
    gain = None
    if fit.earlier:
        halves = compared.new_right.astype(np.float64) - fit.earlier[-1][1]
        gain = mean_of(halves, weights, groups)
    plateau, sentence = advice(len(answers.texts), gain, accepted)
    annotators: dict[str, Any] = {
        str(each): {
            "answers": int((answers.annotators == each).sum()),
            "accuracy": float(compared.new_right[answers.annotators == each].mean()),
            "served_accuracy": float(compared.served_right[answers.annotators == each].mean()),
            "set_aside": None,
        }
        for each in np.unique(answers.annotators)
    }
    annotators |= {
        str(each.annotator): {
            "answers": None,
            "accuracy": None,
            "served_accuracy": None,
            "set_aside": each.reason,
        }
        for each in gone
    }
    return {
        "served": served.version if served else None,
        "new": {
            "accuracy": figure(compared.new_right, 0, 1),
            "log_loss": figure(-compared.new, 0, np.inf),
        },
        "served_model": {
            "accuracy": figure(compared.served_right, 0, 1),
            "log_loss": figure(-compared.served, 0, np.inf),
        },
        "gain": _mean_figure(verdict.gain, -np.inf, np.inf)
        | {"at_least": _finite(verdict.gain.lower(LEVEL)), "level": LEVEL},
        "accuracy_gain": _mean_figure(verdict.accuracy_gain, -1, 1),
        "worse_for": [*verdict.worse_for],
        "annotators": annotators,
        "shares": [*fit.stack.shares],
        "learning_curve": [
            *(
                (texts, mean_of(right.astype(np.float64), weights, groups).value)
                for texts, right in fit.earlier
            ),
            (len(answers.texts), mean_of(compared.new_right.astype(np.float64), weights, groups).value),
        ],
        "plateau": plateau,
        "advice": sentence,
        "auto_accept": {
            "errors": 0.05,
            "share": accepted.share,
            "confidence": accepted.confidence,
            "errors_at_most": accepted.errors_at_most,
        },
    }


def _confidences(probabilities: Numbers, head: Head) -> Numbers:
    """float64[answers]: the probability of the chosen labels; of several, that all are right."""
    if head == "softmax":
        highest: Numbers = probabilities.max(axis=1)
        return highest
    product: Numbers = np.maximum(probabilities, 1 - probabilities).prod(axis=1)
    return product


def _mean_figure(mean: Mean, least: float, most: float) -> dict[str, Any]:
    low, high = np.clip(mean.interval_95, least, most)
    return {"value": mean.value, "interval_95": [_finite(low), _finite(high)]}


def _finite(value: float) -> float | None:
    """For JSON."""
    return float(value) if np.isfinite(value) else None
