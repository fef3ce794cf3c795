"""What people would do without Prelabel: TF-IDF of words and logistic regression, in twenty lines of
scikit-learn. Every report compares it with the trained model.
"""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from export.encoders.base import Numbers
from export.training.blocks import Rows
from export.training.evidence import quiet
from export.training.linear_head import Targets

NAME = "TF-IDF words, logistic regression"
"""In the report."""

LEAST = 1e-6
"""The probability of a label that is never given."""


def fit_baseline(texts: Sequence[str], targets: Targets, rows: Rows) -> Callable[[Rows], Numbers]:
    """A function from rows of the texts to logits, as log-probabilities: float64[rows, classes]."""
    truth = targets[rows] > 0
    one_label = bool((truth.sum(axis=1) == 1).all())
    if len(np.unique(truth, axis=0)) == 1:  # nothing to tell apart
        answer = np.where(truth[0], 0.0, np.log(LEAST))
        return lambda others: np.tile(answer, (len(others), 1))
    # one regression per label, by coordinate descent over the texts, which are fewer than the words: a
    # hundred times as fast as one for all labels by L-BFGS, and as good
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        OneVsRestClassifier(LogisticRegression(C=10, solver="liblinear", dual=True, random_state=0)),
    )
    # a text that has no word of two letters would leave no vocabulary
    with quiet():
        pipeline.fit([f"{texts[row]} text" for row in rows], truth.argmax(axis=1) if one_label else truth)

    def logits(others: Rows) -> Numbers:
        probabilities = pipeline.predict_proba([f"{texts[row]} text" for row in others])
        found: Numbers = np.full((len(others), targets.shape[1]), LEAST)
        found[:, pipeline.classes_ if one_label else slice(None)] = probabilities
        np.clip(found, LEAST, 1 - LEAST, out=found)
        result: Numbers = np.log(found) if one_label else np.log(found / (1 - found))
        return result

    return logits
