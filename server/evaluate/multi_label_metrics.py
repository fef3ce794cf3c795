"""Metrics of probabilities where a text may have several labels: each label is its own yes or no."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.arrays import Bools, Floats
from server.evaluate.classification_metrics import ratio


@dataclass
class MultiLabelMetrics:
    """The rows added so far; a label is predicted where its probability is at least `threshold`."""

    classes: int
    threshold: float
    _probabilities: list[Floats] = field(default_factory=list)
    _truth: list[Bools] = field(default_factory=list)

    def add(self, probabilities: Floats, truth: Bools) -> None:
        """probabilities float32[rows, classes], truth bool[rows, classes]."""
        self._probabilities.append(probabilities)
        self._truth.append(truth)

    @property
    def probabilities(self) -> Floats:
        return np.concatenate([np.zeros((0, self.classes), np.float32), *self._probabilities])

    @property
    def truth(self) -> Bools:
        return np.concatenate([np.zeros((0, self.classes), np.bool_), *self._truth])

    @property
    def rows(self) -> int:
        return sum(map(len, self._truth))

    @property
    def right(self) -> int:
        """Rows whose labels are exactly the predicted ones."""
        return int((self._predicted == self.truth).all(axis=1).sum())

    @property
    def texts(self) -> npt.NDArray[np.int64]:
        """Rows by label."""
        texts: npt.NDArray[np.int64] = self.truth.sum(axis=0)
        return texts

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """By label: correct predictions / predictions; 0 if there are none."""
        return ratio(self._hits, self._predicted.sum(axis=0))

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """By label: correct predictions / rows with the label; 0 if there are none."""
        return ratio(self._hits, self.texts)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """By label: the harmonic mean of precision and recall."""
        return ratio(2 * self._hits, self._predicted.sum(axis=0) + self.texts)

    @property
    def micro_f1(self) -> float:
        """F1 of all labels' predictions taken together."""
        predictions, labels = self._predicted.sum(), self.texts.sum()
        return float(2 * self._hits.sum() / max(1, predictions + labels))

    @property
    def average_precision(self) -> npt.NDArray[np.float64]:
        """By label: the mean precision at each recall, over all thresholds; 0 for a label without rows."""
        probabilities, truth = self.probabilities, self.truth
        return np.array([_average_precision(probabilities[:, i], truth[:, i]) for i in range(self.classes)])

    @property
    def _predicted(self) -> Bools:
        return self.probabilities >= self.threshold

    @property
    def _hits(self) -> npt.NDArray[np.int64]:
        hits: npt.NDArray[np.int64] = (self._predicted & self.truth).sum(axis=0)
        return hits


def _average_precision(scores: Floats, truth: Bools) -> float:
    """Σ over the distinct scores, descending: (recall there − recall before) · precision there."""
    if not truth.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    # index of the last row with each score
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(truth[order])[last]
    recall = hits / truth.sum()
    return float((np.diff(recall, prepend=0.0) * (hits / (last + 1))).sum())
