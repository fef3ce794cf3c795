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
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from export.encoders.base import Numbers
from server.arrays import Floats
from server.learning.triggers import Order

CHOSEN = 200
"""Tasks that are chosen one by one: more than are annotated before the next round gives a new order."""

CANDIDATES = 4_000
"""Tasks among which they are chosen, and for which they stand; of more, the most uncertain ones, or without a
model a random draw.
"""

TOPICS = 64
"""Dimensions in which tasks are compared."""

COLUMNS = 2**17
"""Columns of the hashed words, and as many of the characters."""

LEAST = 1e-3
"""Uncertainty of a task that is certain."""

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
    - diverse: CHOSEN tasks stand for as many uncertain ones as possible, each for those that the ones before
      it do not: the greedy maximum of the facility location Σ_j u_j² max_i s_ij² (Wei, Iyer and Bilmes 2015),
      with u = 1 - margin and s the cosine of two tasks, if positive, in the first TOPICS singular vectors of
      the features (latent semantic analysis, Deerwester et al. 1990), less their mean. What is uncertain
      and typical of many tasks comes first; a near-duplicate of a chosen task, and an odd one, gain little.
      The rest follows by margin. Without a model u = 1.
    - random: a random order.

    benchmarks/active_learning.py compares the three: with eight labels diverse is the best by far up to 200
    annotations, later as good as uncertain; with two it is little better than random. Tried in the same way,
    with each model served: BADGE (Ash et al. 2020, arXiv:1906.03671) and k-means++ with weights u² were about
    as good as uncertain, because nearly all texts are equally far from each other; weighted k-means (Zhdanov
    2019, arXiv:1901.05954) was nearly as good as diverse, but has to know how many tasks are annotated until
    the next round.
    """
    random = np.random.default_rng(seed)
    tasks = features.shape[0]
    order = random.permutation(tasks)  # of equally useful ones
    if rule == "random" or tasks == 0:
        return _scores(order)
    weights: Numbers = np.ones(tasks)
    if probabilities is not None:
        certainty = _certainty(probabilities, several=several)
        weights = np.maximum(1 - certainty, LEAST) ** 2
        order = order[np.argsort(certainty[order], kind="stable")]
    if rule == "diverse":
        candidates = order[:CANDIDATES]
        first = candidates[_representatives(_topics(features[candidates]), weights[candidates])]
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


def _topics(features: Any) -> Floats:
    """float32[rows, TOPICS or fewer], less their mean, of length 1; zeros for a row that is the mean."""
    if issparse(features) and features.shape[0] > TOPICS:
        # a column of one row says nothing about others
        features = features[:, np.bincount(features.indices, minlength=features.shape[1]) > 1]
    if min(features.shape) > TOPICS:
        with threadpool_limits(1):
            left, sizes, _ = randomized_svd(features, TOPICS, n_iter=2, random_state=1)
        features = left * sizes
    elif issparse(features):
        features = features.toarray()
    centred = features - features.mean(axis=0)
    # what rounding leaves of equal rows is no direction
    centred[_squares(centred) < 1e-10 * _squares(features)] = 0
    return np.asarray(_unit_rows(centred), dtype=np.float32)


def _representatives(topics: Floats, weights: Numbers) -> Rows:
    """The greedy maximum of the facility location: CHOSEN rows at most, fewer if the others add nothing.

    A gain can only shrink as more are chosen (Minoux 1978), so most are not computed again.
    """
    weights = weights.astype(np.float32)
    with threadpool_limits(1):
        alike = np.maximum(topics @ topics.T, 0) ** 2
        gains = alike @ weights
    covered = np.zeros(len(topics), dtype=np.float32)
    chosen: list[int] = []
    enough = 1e-6 * gains.max(initial=0)
    while len(chosen) < CHOSEN and gains.max(initial=0) > enough:
        best = int(gains.argmax())
        gains[best] = np.maximum(alike[best] - covered, 0) @ weights
        if gains[best] >= gains.max():
            chosen.append(best)
            covered = np.maximum(covered, alike[best])
            gains[best] = 0
    return np.array(chosen, dtype=np.intp)


def _squares(values: Any) -> Numbers:
    """float64[rows]: the squared length of each row."""
    return np.asarray((values.multiply(values) if issparse(values) else values * values).sum(axis=1)).ravel()


def _unit_rows(features: Any) -> Any:
    """The rows scaled to length 1, but for zeros."""
    lengths = np.sqrt(_squares(features))
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return csr_array(features.multiply(scale[:, None])) if issparse(features) else features * scale[:, None]
