"""What a candidate would get right on texts it has not seen: cross-validation, calibrated."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import shuffle

from export.classifier import FittedClassifier, probabilities_of
from export.encoders.base import Numbers
from export.training.blocks import Rows
from export.training.linear_head import Targets, balanced
from server.bundle import Head
from server.evaluate.classification_metrics import ClassificationMetrics, wilson

TEN_FOLDS = 1_000
"""Up to this number of texts get ten folds, more get five."""
MANY = 5_000
"""From this number of texts on, one fold of ten is enough."""

LIMITS = 0.05, 20.0
"""Bounds of the temperature, which would diverge if all of a few held-out texts were right."""

Fold = tuple[Rows, Rows]
"""(rows to fit on, rows to measure)"""

Fit = Callable[[Rows], Callable[[Rows], Numbers]]
"""Rows to fit on → a function from other rows to logits float64[rows, classes]."""


@dataclass(frozen=True)
class Labelled:
    """The targets ±1 [texts, classes] of all training texts, and the group of each: texts of one group are on
    the same side of every split.
    """

    targets: Targets
    groups: npt.NDArray[np.intp]
    head: Head
    balance: bool = False
    """Whether to answer as if all labels were equally frequent."""

    @property
    def classes(self) -> npt.NDArray[np.intp]:
        """The class of each text; of several labels the first."""
        classes: npt.NDArray[np.intp] = self.targets.argmax(axis=1)
        return classes

    def folds(self, seed: int) -> list[Fold]:
        """For cross-validation: of MANY texts the one nearest to a tenth, which is enough, unless large
        groups allow none between a thirtieth and a third.
        """
        texts = len(self.targets)
        number = 10 if texts <= TEN_FOLDS or texts >= MANY else 5
        folds = self.split(min(number, len(np.unique(self.groups))), seed)
        nearest = min(folds, key=lambda fold: abs(len(fold[1]) - texts / 10))
        return [nearest] if texts >= MANY and texts / 30 < len(nearest[1]) < texts / 3 else folds

    def split(self, number: int, seed: int) -> list[Fold]:
        """So many folds, stratified by class."""
        classes = self.classes
        if np.bincount(classes).max() < number:  # too many labels to have some of each in every fold
            classes = np.zeros_like(classes)
        # shuffled here: the splitter shuffles groups of unequal sizes too little
        order = shuffle(np.arange(len(self.targets)), random_state=seed)
        splitter = StratifiedGroupKFold(number)
        with quiet():
            splits = splitter.split(order, classes[order], self.groups[order])
            return [(np.sort(order[fitted]), np.sort(order[held_out])) for fitted, held_out in splits]


@dataclass(frozen=True)
class Calibration:
    """Probabilities are those of logits / temperature + shift, which is a number or one for each class."""

    temperature: float
    shift: float | Numbers = 0.0

    def apply(self, logits: Numbers, head: Head) -> Numbers:
        return probabilities_of(logits / self.temperature + self.shift, head)

    def of(self, classifier: FittedClassifier) -> FittedClassifier:
        return classifier.calibrated(self.temperature, self.shift)


@dataclass(frozen=True)
class Estimate:
    """Figures of one candidate on texts that it was not fitted on. The temperature is fitted on the same
    texts, which flatters log loss and calibration error a little.
    """

    name: str
    figures: dict[str, Any]
    calibration: Calibration
    seconds: float
    probabilities: Numbers
    """float64[measured texts, classes]."""

    @property
    def better_order(self) -> tuple[float, float]:
        """Sorts candidates: by the sum of accuracy and macro F1, then by log loss."""
        return self.figures["accuracy"] + self.figures["macro_f1"], -self.figures["log_loss"]


def cross_validate(name: str, fit: Fit, labelled: Labelled, folds: Sequence[Fold]) -> Estimate:
    """Fit on all folds but one, in turn, and measure on that one."""
    started = time.monotonic()
    logits = np.zeros(labelled.targets.shape)
    measured = np.sort(np.concatenate([held_out for _, held_out in folds]))
    for fitted, held_out in folds:
        logits[held_out] = fit(fitted)(held_out)
    targets, logits = labelled.targets[measured], logits[measured]
    calibration = calibrate(logits, targets, labelled.head, balance=labelled.balance)
    probabilities = calibration.apply(logits, labelled.head)
    figures = figures_of(probabilities, targets, labelled.head)
    return Estimate(name, figures, calibration, time.monotonic() - started, probabilities)


def calibrate(logits: Numbers, targets: Targets, head: Head, *, balance: bool = False) -> Calibration:
    """The calibration with the least log loss on texts that the logits' model was not fitted on; with
    `balance` all labels count the same, and the rarer ones are shifted up or down by as much as fits that.
    """
    logarithms = np.log(np.maximum((targets > 0).sum(axis=0), 1))
    direction = 1.0 if head == "sigmoid" else logarithms.mean() - logarithms
    weights = balanced(targets) if balance else np.ones(len(targets))
    shifted = head == "sigmoid" or balance

    def calibration(parameters: npt.NDArray[np.float64]) -> Calibration:
        return Calibration(float(np.exp(parameters[0])), parameters[1] * direction if shifted else 0.0)

    def loss(parameters: npt.NDArray[np.float64]) -> float:
        losses = log_losses(calibration(parameters).apply(logits, head), targets, head)
        return float(np.average(losses, weights=weights))

    bounds = [tuple(np.log(LIMITS))] + [(-10.0, 10.0)] * shifted
    return calibration(minimize(loss, [np.log(0.2)] + [0.0] * shifted, bounds=bounds, method="Powell").x)


def log_loss(probabilities: Numbers, targets: Targets, head: Head) -> float:
    """Mean negative log-likelihood of a text's labels, in nats."""
    return float(log_losses(probabilities, targets, head).mean())


def log_losses(probabilities: Numbers, targets: Targets, head: Head) -> Numbers:
    """Of each text."""
    likelihood = np.where(targets > 0, probabilities, 1 - probabilities if head == "sigmoid" else 1.0)
    losses: Numbers = -np.log(np.maximum(likelihood, 1e-12)).sum(axis=1)
    return losses


def figures_of(probabilities: Numbers, targets: Targets, head: Head) -> dict[str, Any]:
    """Figures for the report and the manifest. A text with several labels is right if all of them are."""
    truth = targets > 0
    if head == "softmax":
        classes = truth.argmax(axis=1)
        metrics = ClassificationMetrics(truth.shape[1])
        metrics.add(probabilities.astype(np.float32), classes)
        predicted = np.eye(truth.shape[1], dtype=bool)[probabilities.argmax(axis=1)]
        right, calibration_error = metrics.right, metrics.calibration_error
    else:
        predicted = probabilities >= 0.5
        right = int((predicted == truth).all(axis=1).sum())
        pairs = ClassificationMetrics(2)
        both = np.stack([1 - probabilities.ravel(), probabilities.ravel()], axis=1)
        pairs.add(both.astype(np.float32), truth.ravel().astype(np.int64))
        calibration_error = pairs.calibration_error
    with quiet():
        f1 = f1_score(truth, predicted, average=None, zero_division=0.0)
        precision_by_label = [
            float(average_precision_score(truth[:, label], probabilities[:, label]))
            if truth[:, label].any()
            else None
            for label in range(truth.shape[1])
        ]
    found = truth & predicted
    return {
        "texts": len(truth),
        "accuracy": right / len(truth),
        "interval_95": wilson(right, len(truth)),
        "macro_f1": float(np.mean(f1)),
        "f1": f1.tolist(),
        "recall": (found.sum(axis=0) / np.maximum(truth.sum(axis=0), 1)).tolist(),
        "average_precision": precision_by_label,
        "log_loss": log_loss(probabilities, targets, head),
        "calibration_error": calibration_error,
    }


def learning_curve(
    fit: Fit, labelled: Labelled, folds: Sequence[Fold], whole: Estimate, seed: int
) -> list[tuple[int, float]]:
    """(number of texts, accuracy) from a quarter and a half of the texts, and from all."""
    points = []
    for share in (0.25, 0.5):
        parts = [
            (np.sort(shuffle(fitted, random_state=seed)[: max(2, round(share * len(fitted)))]), held_out)
            for fitted, held_out in folds
        ]
        estimate = cross_validate("", fit, labelled, parts)
        points.append((round(share * len(labelled.targets)), estimate.figures["accuracy"]))
    return [*points, (len(labelled.targets), whole.figures["accuracy"])]


@contextmanager
def quiet() -> Iterator[None]:
    """scikit-learn warns of labels with few texts; the report lists them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
