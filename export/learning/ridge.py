"""Ridge regression over texts, with exact predictions for each group of texts from all the others.

The dual form (Saunders et al. 1998) with an intercept: (K + αW⁻¹) a + b = y and Σ a = 0, for K = X Xᵀ. With M
the inverse of this system's matrix, the residual of a group G that is left out is (M_GG)⁻¹ a_G: the
leave-one-out formula of least squares (Cook and Weisberg 1982; for kernels Rifkin and Lippert 2007).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from scipy.sparse import issparse

from export.encoders.base import Numbers

PENALTY = 1.0
"""α for features of length 1, as in `export/training/linear_head.py`."""

EXACT = 2_500
"""Up to this number of texts the system is solved exactly, for more by conjugate gradients, with folds."""

FOLDED = 1_000
"""Up to this number of texts there are folds instead of leaving out each group."""

DENSE = 20
"""N-grams in more than one of so many texts are multiplied as a dense matrix."""

FOLDS = 4
"""Folds of conjugate gradients, which end after ROUNDS, or when the residual is TOLERANCE of the first."""
TOLERANCE = 1e-2
ROUNDS = 60

Groups = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ridge:
    """`coefficients` float64[features, classes] and `bias` float64[classes]; `left_out` float64[texts,
    classes]: logits from a model that was not fitted on the text's group.
    """

    coefficients: Numbers
    bias: Numbers
    left_out: Numbers


def kernel_of(features: Any) -> Numbers:
    """float64[texts, texts] of a dense or sparse matrix [texts, features]."""
    if not issparse(features):
        product: Numbers = (features @ features.T).astype(np.float64)
        return product
    # n-grams that are in most texts as a dense matrix, because products of sparse ones take long
    frequent = np.bincount(features.indices, minlength=features.shape[1]) * DENSE >= features.shape[0]
    dense, sparse = features[:, frequent].toarray(), features[:, ~frequent]
    sparse.eliminate_zeros()
    kernel: Numbers = (dense @ dense.T).astype(np.float64) + (sparse @ sparse.T).toarray()
    return kernel


def balanced(targets: Numbers, weights: Numbers) -> Numbers:
    """float64[texts]: `weights`, changed so that all classes have the same total."""
    classes = targets.argmax(axis=1)
    totals = np.bincount(classes, weights, minlength=targets.shape[1])
    factors = totals.sum() / (np.count_nonzero(totals) * np.maximum(totals, 1e-12))
    changed: Numbers = weights * factors[classes]
    return changed


@dataclass(frozen=True)
class Answered:
    """What is fitted: targets float64[texts, classes], from -1 to 1; weights float64[texts], positive; the
    `groups` int[texts] that stay together. With `balance` all classes get the same weight in each fit.
    """

    targets: Numbers
    weights: Numbers
    groups: Groups
    balance: bool
    seed: int = 1

    def of(self, rows: Groups) -> "Answered":
        return replace(self, targets=self.targets[rows], weights=self.weights[rows], groups=self.groups[rows])

    @property
    def fit_weights(self) -> Numbers:
        """float64[texts]."""
        return balanced(self.targets, self.weights) if self.balance else self.weights


def fit_ridge(features: Any, answered: Answered, kernel: Numbers | None = None) -> Ridge:
    """For features [texts, features], dense or sparse. `kernel` is `kernel_of(features)`, where it is
    known.
    """
    if len(answered.targets) <= EXACT:
        kernel = kernel_of(features) if kernel is None else kernel
        dual, bias, left_out = fit_dual(kernel, answered)
        return Ridge(features.T @ dual, bias, left_out)
    if issparse(features):
        return _fit_iteratively(features, answered)
    return _fit_primal(features, answered)


def fit_dual(kernel: Numbers, answered: Answered) -> tuple[Numbers, Numbers, Numbers]:
    """(dual coefficients float64[texts, classes], bias float64[classes], logits of each text from a fit
    without its group float64[texts, classes]). Few texts have folds that are balanced one
    by one: leaving out one of five texts of a class, without that, makes this class too improbable.
    """
    targets, weights, groups = answered.targets, answered.fit_weights, answered.groups
    if len(targets) <= FOLDED:
        dual, bias = _solve(kernel, targets, weights)
        left_out = np.zeros(targets.shape)
        folds = _stratified_folds(answered)
        for fold in np.unique(folds):
            fitted, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            left_out[held_out] = predict_dual(kernel, answered, fitted, held_out)
        return dual, bias, left_out
    matrix = kernel + np.diag(PENALTY / weights)
    factor, lower = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    inverse, failed = dpotri(factor, lower=lower)
    if failed:
        raise np.linalg.LinAlgError("The kernel is not positive definite.")
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    ones = inverse.sum(axis=1)
    total = ones.sum()
    solved = inverse @ targets
    bias = solved.sum(axis=0) / total
    dual = solved - np.outer(ones, bias)
    diagonal = np.diag(inverse) - ones**2 / total
    residuals = dual / np.maximum(diagonal, 1e-12)[:, None]
    for members in several_of(groups):
        block = inverse[np.ix_(members, members)] - np.outer(ones[members], ones[members]) / total
        residuals[members] = np.linalg.lstsq(block, dual[members], rcond=1e-10)[0]
    return dual, bias, targets - residuals


def predict_dual(kernel: Numbers, answered: Answered, fitted: Groups, others: Groups) -> Numbers:
    """float64[others, classes]: the logits of other texts from a fit to some."""
    part = answered.of(fitted)
    dual, bias = _solve(kernel[np.ix_(fitted, fitted)], part.targets, part.fit_weights)
    logits: Numbers = kernel[np.ix_(others, fitted)] @ dual + bias
    return logits


def _solve(kernel: Numbers, targets: Numbers, weights: Numbers) -> tuple[Numbers, Numbers]:
    """(dual coefficients, bias)."""
    factor = cho_factor(kernel + np.diag(PENALTY / weights), lower=True, overwrite_a=True, check_finite=False)
    solved = cho_solve(factor, np.column_stack([targets, np.ones(len(targets))]))
    bias = solved[:, :-1].sum(axis=0) / solved[:, -1].sum()
    return solved[:, :-1] - np.outer(solved[:, -1], bias), bias


def several_of(groups: Groups) -> list[Groups]:
    """The indices of each group that has several texts."""
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [part for part in parts if len(part) > 1]


def _stratified_folds(answered: Answered) -> Groups:
    """int[texts]: the fold of each, of ten. Groups are dealt out by the class of their first text.
    scikit-learn's splitter takes longer than the fits.
    """
    _, first, inverse = np.unique(answered.groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(answered.seed).permutation(len(first))
    classes = answered.targets.argmax(axis=1)[first]
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    rank = np.empty(len(first), dtype=np.intp)
    rank[order] = np.arange(len(first))
    folds: Groups = rank[inverse] % 10
    return folds


def folds_of(groups: Groups, number: int) -> Groups:
    """int[texts]: the fold of each, the same in a group; evenly spaced over the groups' first texts."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    folds: Groups = rank[inverse] % number
    return folds


def _masks(answered: Answered) -> Numbers:
    """float64[texts, folds + 1]: the weights of each fold's fit, and of the last, which is of all."""
    folds = folds_of(answered.groups, FOLDS)
    masks = np.tile(answered.fit_weights[:, None], FOLDS + 1)
    masks[np.arange(len(folds)), folds] = 0
    return masks


def _gather(logits: Sequence[Numbers], groups: Groups) -> Numbers:
    folds = folds_of(groups, FOLDS)
    chosen: Numbers = np.stack(logits[:FOLDS])[folds, np.arange(len(folds))]
    return chosen


def _fit_primal(features: Numbers, answered: Answered) -> Ridge:
    """The normal equations: exact, for few features."""
    targets = answered.targets
    logits, last = [], (np.zeros(0), np.zeros(0))
    for mask in _masks(answered).T:
        total = mask.sum()
        middle, mean = mask @ features / total, mask @ targets / total
        weighted = features * mask[:, None]
        matrix = weighted.T @ features - total * np.outer(middle, middle)
        wanted = weighted.T @ targets - total * np.outer(middle, mean)
        matrix[np.diag_indices_from(matrix)] += PENALTY
        coefficients = np.linalg.solve(matrix, wanted)
        last = coefficients, mean - middle @ coefficients
        logits.append(features @ coefficients + last[1])
    return Ridge(*last, _gather(logits, answered.groups))


def _fit_iteratively(features: Any, answered: Answered) -> Ridge:
    """Conjugate gradients for √W (X Xᵀ) √W + α, all folds at once: the products with X take longest."""
    masks, targets = _masks(answered), answered.targets
    fits, classes = masks.shape[1], targets.shape[1]
    roots = np.repeat(np.sqrt(masks), classes + 1, axis=1).astype(np.float32)
    wanted = np.tile(np.column_stack([targets, np.ones(len(targets))]), fits).astype(np.float32) * roots
    transposed = features.T.tocsr()
    solved = np.zeros_like(wanted)
    residual = wanted.copy()
    direction = residual.copy()
    norm = (residual**2).sum(axis=0)
    enough = TOLERANCE**2 * norm
    for _ in range(ROUNDS):
        product = roots * (features @ (transposed @ (roots * direction))) + PENALTY * direction
        step = norm / np.maximum((direction * product).sum(axis=0), 1e-30)
        solved += step * direction
        residual -= step * product
        after = (residual**2).sum(axis=0)
        if (after <= enough).all():
            break
        direction = residual + after / np.maximum(norm, 1e-30) * direction
        norm = after
    dual = (solved * roots).astype(np.float64).reshape(len(targets), fits, classes + 1)
    bias = dual[:, :, :classes].sum(axis=0) / dual[:, :, classes].sum(axis=0)[:, None]
    centred = dual[:, :, :classes] - dual[:, :, classes:] * bias
    coefficients = transposed @ centred.reshape(len(targets), -1).astype(np.float32)
    logits = np.asarray(features @ coefficients, dtype=np.float64).reshape(centred.shape) + bias
    last = np.asarray(coefficients, dtype=np.float64).reshape(-1, fits, classes)[:, -1]
    return Ridge(last, bias[-1], _gather(list(logits.transpose(1, 0, 2)), answered.groups))
