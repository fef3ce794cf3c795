"""N-grams that are counted in arrays are those of the server's definition."""

from collections import Counter

import numpy as np
import pytest

from export.learning.features import FeatureCache, counted_ngrams, ngram_features
from export.learning.project_model import probabilities
from server.encoders.ngrams.analyzer import ngrams_of
from server.encoders.ngrams.encoder import NgramsSpec
from tests.conftest import random_texts
from tests.encoders.fitted import published

TEXTS = [
    *random_texts(30),
    "",
    " ",
    "A b  a\tb",
    "日本語 の テキスト",
    "émigré ﬁlm 10/10",
    "\ud800 lone",
    "𝒳 🙂",
]


@pytest.mark.parametrize(("unit", "longest"), [("words", 2), ("characters", 5)])
def test_they_are_all_of_them(unit: str, longest: int) -> None:
    spec = NgramsSpec.model_validate({"unit": unit, "shortest": 1, "longest": longest})
    found = counted_ngrams(TEXTS, spec)
    counts = Counter(ngram for text in TEXTS for ngram in ngrams_of(text, spec.unit, 1, longest))
    assert set(found) == {ngram for ngram in counts if "\ud800" not in ngram}
    assert len(found) == len(set(found))
    assert [counts[ngram] for ngram in found] == sorted((counts[ngram] for ngram in found), reverse=True)


def test_rows_times_coefficients_are_the_logits_of_the_encoders() -> None:
    features = ngram_features(TEXTS)
    assert features is not None
    coefficients = np.random.default_rng(1).normal(size=(features.matrix.shape[1], 3))
    logits = sum(encoder.logits(TEXTS) for encoder in features.encoders(coefficients))
    assert np.allclose(features.matrix @ coefficients, logits, atol=1e-4)


def test_texts_without_ngrams_have_no_features() -> None:
    assert ngram_features(["", " "]) is None


def test_the_cache_gives_the_same_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    base, cache = published(tmp_path / "base", ["cnn"]), FeatureCache()
    first = cache.features(base, TEXTS[:20])
    assert np.array_equal(cache.features(base, TEXTS[:30])[:20], first)
    assert np.array_equal(FeatureCache().features(base, TEXTS[:20]), first)
    assert np.allclose(cache.answers(base, TEXTS[:5]), probabilities(base, TEXTS[:5]), atol=1e-6)
    cache.keep([base.version], TEXTS[:5])
    assert np.array_equal(cache.features(base, TEXTS[:20]), first)
