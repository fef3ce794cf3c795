"""When more answers would not help, and how many tasks a model could answer alone."""

import numpy as np
import pytest

from export.learning.gate import Mean
from export.learning.stopping import advice, auto_accept, most_errors


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    assert most_errors(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert most_errors(3, 3) == 1


def test_the_confident_answers_are_accepted() -> None:
    confidences = np.linspace(1, 0.5, 1_000, dtype=np.float64)
    right = np.arange(1_000) < 500
    found = auto_accept(confidences, right)
    assert 0.45 < found.share < 0.55
    assert found.confidence is not None
    assert np.mean(~right[confidences >= found.confidence]) <= 0.05


def test_few_answers_prove_no_share() -> None:
    assert auto_accept(np.ones(58), np.ones(58, dtype=bool)).confidence is None
    assert auto_accept(np.ones(59), np.ones(59, dtype=bool)).share == 1


def test_answers_of_equal_confidence_stay_together() -> None:
    right = np.array([True] * 200 + [False] * 100)
    assert auto_accept(np.ones(300), right).confidence is None


def test_the_threshold_keeps_its_error_rate() -> None:
    """In 95 of 100 samples at least."""
    random = np.random.default_rng(1)
    exceeded = 0
    for _ in range(200):
        confidences = random.uniform(0.5, 1, 400)
        found = auto_accept(confidences, random.uniform(size=400) < confidences)
        if found.confidence is not None:
            exceeded += (1 - found.confidence) / 2 > 0.05
    assert exceeded <= 16


@pytest.mark.parametrize(
    ("value", "error", "plateau", "words"),
    [
        (0.001, 0.004, True, "levelled off"),
        (0.05, 0.01, False, "still grows"),
        (0.01, 0.05, False, "may still"),
    ],
)
def test_advice(value: float, error: float, plateau: bool, words: str) -> None:
    accepted = auto_accept(np.ones(59), np.ones(59, dtype=bool))
    found, sentence = advice(200, Mean(value, error, 100), accepted)
    assert found is plateau
    assert words in sentence


def test_without_a_curve_there_is_no_plateau() -> None:
    assert advice(10, None, auto_accept(np.ones(1), np.ones(1, dtype=bool)))[0] is False
