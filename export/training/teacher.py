"""Distillation teacher: logistic regression on word n-grams, whose probabilities soften the labels.

The network sees only the strongest window of each filter; n-gram counts see all of a text. The network learns
the mean of the label and the teacher's probabilities for a text *outside the teacher's training folds*, and
so gains from both while it stays small: Hinton et al. (2015), "Distilling the Knowledge in a Neural Network".
Features and weights follow Wang & Manning (2012), "Baselines and Bigrams".
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


def teacher_probabilities(rows: Sequence[Ids], classes: Sequence[int], *, seed: int) -> Floats | None:
    """Cross-validated probabilities float32[rows, classes] for texts as rows of ids.

    None if a class has fewer texts than there are folds.
    """
    if np.unique(classes, return_counts=True)[1].min() < FOLDS:
        return None
    texts = [" ".join(map(str, row)) for row in rows]
    teacher = make_pipeline(
        TfidfVectorizer(
            token_pattern=r"\S+",  # noqa: S106 - no password
            ngram_range=NGRAMS,
            min_df=2,
            sublinear_tf=True,
            dtype=np.float32,
        ),
        LogisticRegression(C=INVERSE_REGULARISATION, max_iter=300),
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    probabilities: Floats = cross_val_predict(
        teacher, texts, classes, cv=folds, method="predict_proba"
    ).astype(np.float32)
    return probabilities
