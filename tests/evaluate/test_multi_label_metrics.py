"""Metrics of texts with several labels, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from server.evaluate.multi_label_metrics import MultiLabelMetrics


def test_metrics_are_those_of_scikit_learn_however_rows_are_grouped() -> None:
    random = np.random.default_rng(1)
    truth = random.random((200, 4)) < (0.5, 0.2, 0.05, 0.9)
    # rounded, so that scores are often equal
    probabilities = np.round(0.5 * random.random((200, 4)) + 0.4 * truth, 1).astype(np.float32)
    result = MultiLabelMetrics(4, threshold=0.4)
    for rows in (slice(0, 1), slice(1, 1), slice(1, 150), slice(150, 200)):
        result.add(probabilities[rows], truth[rows])
    predicted = probabilities >= 0.4
    assert (result.rows, result.right) == (200, int((predicted == truth).all(axis=1).sum()))
    assert result.texts.tolist() == truth.sum(axis=0).tolist()
    assert result.precision.tolist() == pytest.approx(precision_score(truth, predicted, average=None))
    assert result.recall.tolist() == pytest.approx(recall_score(truth, predicted, average=None))
    assert result.f1.tolist() == pytest.approx(f1_score(truth, predicted, average=None))
    assert result.micro_f1 == pytest.approx(f1_score(truth, predicted, average="micro"))
    assert result.average_precision.tolist() == pytest.approx(
        average_precision_score(truth, probabilities, average=None)
    )


def test_labels_without_rows_or_predictions_give_no_nan() -> None:
    result = MultiLabelMetrics(2, threshold=0.5)
    result.add(np.array([[0.1, 0.2]], dtype=np.float32), np.array([[True, False]]))
    for figures in (result.precision, result.recall, result.f1):
        assert figures.tolist() == [0, 0]
    assert (result.average_precision.tolist(), result.micro_f1) == ([1, 0], 0)
