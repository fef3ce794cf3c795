"""Metrics against values computed by hand, however the rows are grouped."""

import numpy as np
import pytest

from server.evaluate.classification_metrics import ClassificationMetrics, wilson

P = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], dtype=np.float32)
TRUTH = np.array([0, 1, 1, 0])


def metrics_of(*groups: slice) -> ClassificationMetrics:
    sums = ClassificationMetrics(2)
    for group in groups:
        sums.add(P[group], TRUTH[group])
    return sums


def test_metrics_by_hand() -> None:
    result = metrics_of(slice(None))
    assert result.confusion.tolist() == [[2, 0], [1, 1]]
    assert (result.rows, result.right, result.accuracy) == (4, 3, 0.75)
    assert result.precision.tolist() == pytest.approx([2 / 3, 1])
    assert result.recall.tolist() == pytest.approx([1, 0.5])
    assert result.f1.tolist() == pytest.approx([0.8, 2 / 3])
    assert result.log_loss == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.6]).mean(), abs=1e-6)
    # four rows in four bins: each is off by its confidence, or by 1 − its confidence
    assert result.calibration_error == pytest.approx((0.1 + 0.8 + 0.3 + 0.4) / 4, abs=1e-6)


def test_sums_do_not_depend_on_the_grouping() -> None:
    at_once, in_parts = metrics_of(slice(None)), metrics_of(slice(0, 1), slice(1, 1), slice(1, 4))
    assert in_parts.confusion.tolist() == at_once.confusion.tolist()
    assert in_parts.calibration_error == pytest.approx(at_once.calibration_error)
    assert in_parts.log_loss == pytest.approx(at_once.log_loss)


def test_a_class_that_is_never_predicted_has_no_precision_and_no_nan() -> None:
    result = ClassificationMetrics(3)
    result.add(np.array([[0.5, 0.3, 0.2]], dtype=np.float32), np.array([1]))
    assert result.precision.tolist() == [0, 0, 0]
    assert result.f1.tolist() == [0, 0, 0]


def test_probability_1_is_in_the_last_bin() -> None:
    result = ClassificationMetrics(2)
    result.add(np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32), np.array([0, 1]))
    assert result.calibration_error == 0
    assert result.bin_rows.tolist()[-1] == 2


def test_a_confident_mistake_has_a_finite_loss() -> None:
    result = ClassificationMetrics(2)
    result.add(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert np.isfinite(result.log_loss)


def test_wilsons_interval_by_the_published_example() -> None:
    """81 of 263: Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method
    3.
    """
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    low, high = wilson(20, 20)
    assert 0.8 < low < 1.0
    assert high == pytest.approx(1.0)
