"""The order in which tasks are best annotated: scores by which Label Studio serves the useful ones first.

Pure. Label Studio's uncertainty sampling takes the lowest score first; of several annotators each gets one of
the first few. The scores are ranks, so they are a strict order that any of its columns can sort by.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack, issparse
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from export.encoders.base import Numbers
from server.learning.triggers import Order

CHOSEN = 200
"""Tasks that are chosen one by one: more than are annotated before the next round gives a new order."""

CANDIDATES = 5_000
"""Tasks among which they are chosen: with more, the most uncertain ones, or without a model a random draw."""

COLUMNS = 2**17
"""Columns of the hashed words, and as many of the characters."""

READ = 1_000
"""Characters of a text whose n-grams are counted."""

Rows = npt.NDArray[np.intp]


def usefulness(
    probabilities: Numbers | None, features: Any, rule: Order, seed: int = 1, *, several: bool = False
) -> Numbers:
    """Scores float64[tasks] in [0, 1], all different: the task with the lowest is annotated next.

    `probabilities` float64[tasks, classes], None without a model; `features` [tasks, features], csr or dense.
    With `several`, a task may have several labels, and each class has a probability of its own.

    - uncertainty: by the margin between the two most probable classes, the smallest first (Scheffer et al.
      2001); with several labels, by the label nearest to 0.5.
    - diverse: BADGE (Ash et al. 2020, arXiv:1906.03671). A task has the gradient that it would give to the
      head if the most probable class were right, g = (p - onehot(argmax p)) ⊗ x. CHOSEN tasks are drawn as
      k-means++ draws its centres, each with a probability proportional to its squared distance from the
      nearest one drawn before. An uncertain task has a long gradient, and that of a near-duplicate of a drawn
      task is near: both at once. The rest follows by margin. Without a model g = x.
    - random: a random order.

    The distances need no gradients: <g, g'> = <r, r'> <x, x'>, with the residuals r. A choice takes one
    product of the features with one of their rows.
    """
    random = np.random.default_rng(seed)
    tasks = features.shape[0]
    order = random.permutation(tasks)  # of equally useful ones
    if rule == "random" or tasks == 0:
        return _scores(order)
    if probabilities is not None:
        order = order[np.argsort(_certainty(probabilities, several=several)[order], kind="stable")]
    if rule == "diverse":
        candidates = order[:CANDIDATES]
        residuals: Numbers = np.ones((len(candidates), 1))
        if probabilities is not None:
            residuals = _residuals(probabilities[candidates], several=several)
        first = candidates[_spread(features[candidates], residuals, random)]
        order = np.concatenate([first, order[~np.isin(order, first)]])
    return _scores(order)


def features_of(texts: Sequence[str]) -> csr_array:
    """float64[texts, 2 COLUMNS], rows of length 1: TF-IDF of words and of characters, both of equal weight;
    a row of zeros for a text without either. The characters make it fit for languages without spaces, and
    for texts that differ in a few letters.
    """
    if not texts:
        return csr_array((0, 2 * COLUMNS))
    begins = [text[:READ] for text in texts]
    parts = []
    for unit, lengths in (("word", (1, 1)), ("char_wb", (3, 3))):
        hashed = HashingVectorizer(
            analyzer=unit, ngram_range=lengths, n_features=COLUMNS, norm=None, alternate_sign=False
        )
        parts.append(TfidfTransformer(sublinear_tf=True).fit_transform(hashed.transform(begins)))
    return _unit_rows(csr_array(hstack(parts, format="csr")))


def _scores(order: Rows) -> Numbers:
    """float64[tasks] from the tasks in their order."""
    scores = np.empty(len(order))
    scores[order] = np.arange(len(order)) / max(len(order) - 1, 1)
    return scores


def _certainty(probabilities: Numbers, *, several: bool) -> Numbers:
    """float64[tasks] in [0, 1], 0 for a toss-up."""
    if several:
        return np.asarray(np.abs(2 * probabilities - 1).min(axis=1))
    if probabilities.shape[1] == 1:
        return np.ones(len(probabilities))
    best = np.partition(probabilities, -2, axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


def _residuals(probabilities: Numbers, *, several: bool) -> Numbers:
    """The gradients of the logits, float64[tasks, classes], if the model were right."""
    if several:
        return np.asarray(probabilities - (probabilities >= 0.5))
    best = probabilities.argmax(axis=1)
    return np.asarray(probabilities - np.eye(probabilities.shape[1])[best])


def _spread(features: Any, residuals: Numbers, random: np.random.Generator) -> Rows:
    """Rows drawn as the centres of k-means++, CHOSEN at most, fewer if the others are equal to them."""
    features = _unit_rows(features)
    lengths = _squares(features) * _squares(residuals)
    chosen: list[int] = []
    distances = lengths.copy()
    while len(chosen) < CHOSEN and (total := distances.sum()) > 0:
        # the draw can fall on a row of no weight if rounding ends the sums early
        drawn = int(min(np.searchsorted(np.cumsum(distances), random.random() * total), len(distances) - 1))
        chosen.append(drawn)
        near = _products(features, drawn) * (residuals @ residuals[drawn])
        found = lengths + lengths[drawn] - 2 * near
        distances = np.minimum(distances, np.where(found > 1e-9 * lengths[drawn], found, 0))
        distances[drawn] = 0
    return np.array(chosen, dtype=np.intp)


def _products(features: Any, row: int) -> Numbers:
    """float64[rows]: of each row with this one."""
    one = features[[row]]
    return np.asarray((features @ (one.toarray() if issparse(one) else one).T).ravel())


def _squares(values: Any) -> Numbers:
    """float64[rows]: the squared length of each row."""
    return np.asarray((values.multiply(values) if issparse(values) else values * values).sum(axis=1)).ravel()


def _unit_rows(features: Any) -> Any:
    """The rows scaled to length 1, but for zeros."""
    lengths = np.sqrt(_squares(features))
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return csr_array(features.multiply(scale[:, None])) if issparse(features) else features * scale[:, None]
