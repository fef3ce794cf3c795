"""Scores of predictions: in [0, 1], rising with certainty, and equal to their formulas."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.arrays import Floats
from server.errors import BadRequest
from server.label_studio.extra_params import requested_scoring
from server.scoring import SCORES, Score, Scoring, scores_of


def score_of(probabilities: Floats, score: Score) -> float:
    (value,) = scores_of(probabilities[None], score)
    return float(value)


LOGITS = st.lists(st.floats(-60, 60), min_size=2, max_size=6)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ("confidence", 0.7),
        ("margin", 0.5),
        ("entropy", 1 + (0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)) / math.log(3)),
    ],
)
def test_the_formula(score: Score, expected: float) -> None:
    assert score_of(np.array([0.2, 0.7, 0.1], dtype=np.float32), score) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("score", "lowest"), [("confidence", 0.25), ("margin", 0.0), ("entropy", 0.0)])
def test_a_guess_is_lowest_and_certainty_is_one(score: Score, lowest: float) -> None:
    assert score_of(np.full(4, 0.25, dtype=np.float32), score) == pytest.approx(lowest, abs=1e-6)
    assert score_of(np.array([0, 0, 1, 0], dtype=np.float32), score) == 1.0


@given(LOGITS, st.floats(1.0, 5.0))
def test_sharper_probabilities_never_score_lower(logits: list[float], sharper: float) -> None:
    def probabilities(scale: float) -> Floats:
        raised = np.exp((np.array(logits) - max(logits)) * scale)
        shares: Floats = (raised / raised.sum()).astype(np.float32)
        return shares

    for score in SCORES:
        low, high = score_of(probabilities(1.0), score), score_of(probabilities(sharper), score)
        assert 0.0 <= low <= 1.0
        assert high >= low - 1e-6


@given(st.floats(0.5, 1.0), st.floats(0.5, 1.0))
def test_with_two_classes_all_scores_sort_alike(one: float, other: float) -> None:
    pairs = [np.array([p, 1 - p], dtype=np.float32) for p in sorted((one, other))]
    for score in SCORES:
        assert score_of(pairs[0], score) <= score_of(pairs[1], score) + 1e-7


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [
        (None, Scoring()),
        ("", Scoring()),
        ("free text", Scoring()),
        ("[1]", Scoring()),
        (7, Scoring()),
        ({}, Scoring()),
        ("{", Scoring()),
        ({"score": "entropy", "other": 1}, Scoring("entropy")),
        ('{"score": "margin"}', Scoring("margin")),
        ({"threshold": 0.25}, Scoring(threshold=0.25)),
        ('{"threshold": 1, "score": "margin"}', Scoring("margin", 1.0)),
    ],
)
def test_extra_params_of_any_kind_survive(extra: object, wanted: Scoring) -> None:
    assert requested_scoring(extra, Scoring()) == wanted


def test_an_extra_param_that_is_nested_too_deeply_is_an_error() -> None:
    nested: Any = []
    for _ in range(2_000):
        nested = [nested]
    for extra in ({"score": nested}, {"threshold": nested}):
        with pytest.raises(BadRequest, match="found a list"):
            requested_scoring(extra, Scoring())


def test_extra_params_of_many_characters_are_an_error() -> None:
    with pytest.raises(BadRequest, match="extra_params: 10,001 characters; the maximum is 10,000"):
        requested_scoring(" " * 10_001, Scoring())


@pytest.mark.parametrize(
    "extra", [{"score": "certainty"}, {"score": None}, {"score": ["margin"]}, '{"score": 1}']
)
def test_an_unknown_score_is_an_error(extra: object) -> None:
    with pytest.raises(BadRequest, match="expected one of confidence, margin, entropy"):
        requested_scoring(extra, Scoring())


@pytest.mark.parametrize("threshold", [0, 1.5, "0.5", True, None, [0.5]])
def test_an_invalid_threshold_is_an_error(threshold: object) -> None:
    with pytest.raises(BadRequest, match="threshold: expected a number above 0 and up to 1"):
        requested_scoring({"threshold": threshold}, Scoring())


def test_scoring_is_part_of_the_version() -> None:
    assert [Scoring(score).version("m-1") for score in SCORES] == ["m-1", "m-1-margin", "m-1-entropy"]
    assert Scoring("margin", 0.25).version("m-1") == "m-1-margin-t0.25"
