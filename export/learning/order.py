"""Which tasks to annotate next: scores by which Label Studio's uncertainty sampling, lowest first, sorts.

`uncertainty` alone takes near-duplicates one after the other. `diverse` multiplies three factors, each in
[0, 1], and takes the largest product again and again:

    uncertainty   1 − (p₁ − p₂)                 the two best classes are close (margin: Settles 2009, §3.1)
    density       (x · mean of all x)^½         like many other tasks (information density: Settles and
                                                Craven 2008, eq. 8)
    distance      1 − max x · y                 unlike every task y that was taken before (k-center greedy:
                                                Sener and Savarese 2018, arXiv:1708.00489)

with x the TF-IDF of a task's text, of length 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from export.encoders.base import Numbers
from server.learning.triggers import Order

TAKEN = 300
"""Tasks that are taken one after the other: more than are annotated between two rounds. The others follow by
what their product is then.
"""

CANDIDATES = 5_000
"""The most uncertain tasks, from which they are taken."""

WORDS = 20_000
"""Features of a text."""


def usefulness(probabilities: Numbers | None, features: csr_array, rule: Order, seed: int = 1) -> Numbers:
    """float64[tasks]: the rank of each task, from 0, the next one, to 1. `probabilities` are float64[tasks,
    classes], None without a model; `features` are those of `features_of`.
    """
    tasks = features.shape[0]
    if rule == "random":
        order = np.random.default_rng(seed).permutation(tasks)
    else:
        unsure = np.ones(tasks) if probabilities is None else uncertainty(probabilities)
        order = _diverse(unsure, features) if rule == "diverse" else np.argsort(-unsure, kind="stable")
    ranks = np.empty(tasks)
    ranks[order] = np.arange(tasks) / max(1, tasks - 1)
    return ranks


def uncertainty(probabilities: Numbers) -> Numbers:
    """1 − margin, float64[tasks]; for labels that exclude each other or not."""
    best = np.sort(probabilities, axis=1)
    unsure: Numbers = 1 - (best[:, -1] - best[:, -2])
    return unsure


def features_of(texts: Sequence[str]) -> csr_array:
    """float32[texts, WORDS at most], rows of length 1, or 0 for a text without words."""
    words = TfidfVectorizer(max_features=WORDS // 2, sublinear_tf=True, dtype=np.float32)
    pieces = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 4), max_features=WORDS // 2, sublinear_tf=True, dtype=np.float32
    )
    found = [part for vectorizer in (words, pieces) if (part := _fitted(vectorizer, texts)) is not None]
    if not found:
        return csr_array((len(texts), 1), dtype=np.float32)
    return csr_array(normalize(hstack(found, format="csr")))


def _fitted(vectorizer: TfidfVectorizer, texts: Sequence[str]) -> Any:
    try:
        return vectorizer.fit_transform(texts)
    except ValueError:  # no words at all
        return None


def _diverse(unsure: Numbers, features: csr_array) -> Any:
    """int[tasks]: the tasks by rank."""
    mean = np.asarray(features.mean(axis=0)).ravel()
    density = np.maximum(features @ mean, 0)
    density = np.sqrt(density / max(float(density.max()), 1e-12))
    worth = np.maximum(unsure, 1e-9) * np.maximum(density, 1e-3)
    candidates = np.argsort(-worth, kind="stable")[:CANDIDATES]
    near = features[candidates]
    distance = np.ones(len(candidates))
    left = np.ones(len(candidates), dtype=bool)
    taken = list[int]()
    for _ in range(min(TAKEN, len(candidates))):
        product = np.where(left, worth[candidates] * np.maximum(distance, 1e-6), -1.0)
        best = int(product.argmax())
        taken.append(best)
        left[best] = False
        similar = np.asarray((near @ near[[best]].T).todense()).ravel()
        distance = np.minimum(distance, 1 - similar)
    rest = np.setdiff1d(np.arange(len(unsure)), candidates[taken])
    product = worth.copy()
    product[candidates] *= np.maximum(distance, 1e-6)
    return np.concatenate([candidates[taken], rest[np.argsort(-product[rest], kind="stable")]])
