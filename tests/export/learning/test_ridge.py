"""Ridge regression: the same as scikit-learn's, and each group is predicted without itself."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import Ridge as Reference

from export.learning import ridge
from export.learning.ridge import Answered, fit_ridge, kernel_of


def answered(count: int, *, balance: bool = False) -> tuple[Any, Answered]:
    random = np.random.default_rng(1)
    features = random.normal(size=(count, 8)) / np.sqrt(8)
    targets = np.where(features[:, :2] + random.normal(size=(count, 2)) > 0, 1.0, -1.0)
    groups = np.minimum(np.arange(count), count - 3)
    return features, Answered(targets, random.uniform(0.5, 2, count), groups, balance)


def expected(features: Any, given: Answered, rows: Any) -> Reference:
    part = given.of(rows)
    return Reference(alpha=ridge.PENALTY).fit(features[rows], part.targets, sample_weight=part.fit_weights)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_fit_is_exact(sparse: bool) -> None:
    features, given = answered(60, balance=True)
    found = fit_ridge(csr_array(features) if sparse else features, given)
    reference = expected(features, given, np.arange(60))
    assert np.allclose(found.coefficients.T, reference.coef_, atol=1e-6)
    assert np.allclose(found.bias, reference.intercept_, atol=1e-6)


def test_each_group_is_predicted_without_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    features, given = answered(60)
    monkeypatch.setattr(ridge, "FOLDED", 0)
    found = fit_ridge(features, given).left_out
    for group in np.unique(given.groups):
        own = given.groups == group
        reference = expected(features, given, np.flatnonzero(~own))
        assert np.allclose(found[own], reference.predict(features[own]), atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_many_texts_have_folds(sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, given = answered(60)
    monkeypatch.setattr(ridge, "EXACT", 10)
    monkeypatch.setattr(ridge, "TOLERANCE", 1e-6)
    found = fit_ridge(csr_array(features) if sparse else features, given)
    folds = ridge.folds_of(given.groups, ridge.FOLDS)
    for fold in range(ridge.FOLDS):
        reference = expected(features, given, np.flatnonzero(folds != fold))
        own = folds == fold
        assert np.allclose(found.left_out[own], reference.predict(features[own]), atol=1e-4)
    reference = expected(features, given, np.arange(60))
    assert np.allclose(found.coefficients.T, reference.coef_, atol=1e-4)


def test_the_kernel_of_sparse_features() -> None:
    features = np.random.default_rng(1).normal(size=(30, 50))
    features[:, 10:] *= np.random.default_rng(2).uniform(size=(30, 40)) < 0.03
    assert np.allclose(kernel_of(csr_array(features)), features @ features.T)
