"""A teacher of another kind: logistic regression on word n-grams, whose doubts about each text soften its
label.

The network sees the strongest window of each filter; n-gram counts see all of them weigh in. Learning the
mean of the label and of what the teacher says of a text *that it was not fitted on* (cross-fitted in folds)
passes some of that on to the network, which stays one small network: Hinton et al. (2015), "Distilling the
Knowledge in a Neural Network"; features and weights after Wang & Manning (2012), "Baselines and Bigrams".
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from server.arrays import Floats, Ids

FOLDS = 5
NGRAMS = (1, 3)
INVERSE_REGULARISATION = 10.0


def opinions(rows: Sequence[Ids], classes: Sequence[int], *, seed: int) -> Floats | None:
    """Probabilities float32[rows, classes] for texts as rows of ids, each by a teacher that has not seen it.

    None when a class has fewer texts than there are folds: then there is too little to learn from.
    """
    if np.bincount(classes).min() < FOLDS:
        return None
    texts = [" ".join(map(str, row)) for row in rows]
    teacher = make_pipeline(
        TfidfVectorizer(
            token_pattern=r"\S+",  # noqa: S106  no password: what a token is
            ngram_range=NGRAMS,
            min_df=2,
            sublinear_tf=True,
            dtype=np.float32,
        ),
        LogisticRegression(C=INVERSE_REGULARISATION, max_iter=300),
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    said: Floats = cross_val_predict(teacher, texts, classes, cv=folds, method="predict_proba").astype(
        np.float32
    )
    return said
