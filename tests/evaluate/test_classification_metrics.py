"""Figures against values worked out by hand, and sums that do not depend on how rows were grouped."""

import numpy as np
import pytest

from server.evaluate.classification_metrics import ClassificationMetrics, wilson

P = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], dtype=np.float32)
TRUTH = np.array([0, 1, 1, 0])


def figures(*groups: slice) -> ClassificationMetrics:
    sums = ClassificationMetrics(2)
    for group in groups:
        sums.add(P[group], TRUTH[group])
    return sums


def test_figures_by_hand() -> None:
    result = figures(slice(None))
    assert result.confusion.tolist() == [[2, 0], [1, 1]]
    assert (result.rows, result.right, result.accuracy) == (4, 3, 0.75)
    assert result.precision.tolist() == pytest.approx([2 / 3, 1])
    assert result.recall.tolist() == pytest.approx([1, 0.5])
    assert result.f1.tolist() == pytest.approx([0.8, 2 / 3])
    assert result.log_loss == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.6]).mean(), abs=1e-6)
    # four rows in four bins: each is off by its own confidence, or by what it lacks to 1
    assert result.calibration_error == pytest.approx((0.1 + 0.8 + 0.3 + 0.4) / 4, abs=1e-6)


def test_sums_do_not_depend_on_how_rows_come() -> None:
    together, apart = figures(slice(None)), figures(slice(0, 1), slice(1, 1), slice(1, 4))
    assert apart.confusion.tolist() == together.confusion.tolist()
    assert apart.calibration_error == pytest.approx(together.calibration_error)
    assert apart.log_loss == pytest.approx(together.log_loss)


def test_a_class_that_is_never_predicted_has_no_precision_and_no_nan() -> None:
    result = ClassificationMetrics(3)
    result.add(np.array([[0.5, 0.3, 0.2]], dtype=np.float32), np.array([1]))
    assert result.precision.tolist() == [0, 0, 0]
    assert result.f1.tolist() == [0, 0, 0]


def test_certainty_and_a_bins_upper_edge_are_counted() -> None:
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
