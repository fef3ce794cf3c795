"""The mean over the windows of a text."""

from typing import cast

import numpy as np
import pytest

from server.arrays import Ids
from server.bundle import Head
from server.encoders.base import Encoder
from server.engines.heads import PROBABILITIES
from server.models.windows import Windows


def of_lengths(*lengths: int) -> list[Ids]:
    return [np.zeros(length, dtype=np.int32) for length in lengths]


TEXTS = np.array([0, 0, 0, 1, 2, 2], dtype=np.int32)
WINDOWS = Windows(of_lengths(8, 8, 3, 5, 8, 2), TEXTS)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_the_logits_of_a_text_are_the_mean_by_tokens(head: Head) -> None:
    logits = np.random.default_rng(0).normal(size=(6, 3), scale=2)
    means = [
        np.average(logits[i == TEXTS], axis=0, weights=w) for i, w in enumerate([[8, 8, 3], [5], [8, 2]])
    ]
    found = WINDOWS.mean(PROBABILITIES[head](logits).astype(np.float32), head)
    assert np.allclose(found, PROBABILITIES[head](np.array(means)), atol=1e-6)
    assert np.allclose(WINDOWS.mean_logits(logits), means)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_certain_answers_stay_finite(head: Head) -> None:
    certain = np.tile(np.array([[1, 0, 0]], dtype=np.float32), (6, 1))
    assert np.allclose(WINDOWS.mean(certain, head), certain[:3], atol=1e-6)


@pytest.mark.parametrize(
    ("head", "logits"),
    [("softmax", [[40, 0, 0], [-50, 0, 0]]), ("sigmoid", [[17, 0, -60], [-20, 0, 50]])],
)
def test_windows_that_are_certain_of_opposites_are_weighed(head: Head, logits: list[list[int]]) -> None:
    """float32 has 1e-38, and not 1 - 1e-8."""
    two = Windows(of_lengths(4, 4), np.zeros(2, dtype=np.int32))
    probabilities = PROBABILITIES[head](np.array(logits, dtype=np.float64))
    mean = PROBABILITIES[head](np.mean(logits, axis=0, keepdims=True))
    assert np.allclose(two.mean(probabilities.astype(np.float32), head), mean, atol=0.05)


def test_a_text_of_one_window_keeps_its_very_bits() -> None:
    probabilities = PROBABILITIES["softmax"](np.random.default_rng(1).normal(size=(6, 3))).astype(np.float32)
    assert np.array_equal(WINDOWS.mean(probabilities, "softmax")[1], probabilities[3])


def test_a_text_is_answered_if_all_its_windows_are() -> None:
    answered = np.array([True, True, False, True, True, True])
    assert WINDOWS.all_of(answered).tolist() == [False, True, True]


def test_nothing_answered() -> None:
    assert WINDOWS.mean(np.zeros((6, 0), dtype=np.float32), "softmax").shape == (3, 0)


def test_encoders_without_a_limit_keep_their_rows() -> None:
    class Unlimited:
        max_length = None

    rows = of_lengths(3, 4)
    windows = Windows.of(rows, [cast("Encoder", Unlimited())])
    assert (windows.rows, windows.texts, windows.truncated) == (rows, None, 0)
    assert windows.all_of(np.array([True, False])).tolist() == [True, False]
