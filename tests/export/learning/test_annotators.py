"""Weights of annotators, and who is set aside."""

from typing import Any

import numpy as np
import pytest

from export.learning.annotators import agreement, annotator_weights, one_label, set_aside

TRUE = np.random.default_rng(1).integers(0, 2, 2_000)


def case(**shares: tuple[int, str]) -> tuple[Any, Any, Any]:
    """Annotators by number: how many answers, and how they give them. Returns annotators, answers, truth."""
    random = np.random.default_rng(2)
    annotators, answers, truth, begin = [], [], [], 0
    for number, (count, kind) in enumerate(shares.values(), start=1):
        true = TRUE[begin : begin + count]
        given = {
            "honest": np.where(random.uniform(size=count) < 0.9, true, 1 - true),
            "constant": np.zeros(count, dtype=int),
            "random": random.integers(0, 2, count),
            "swapped": 1 - true,
        }[kind]
        annotators += [number] * count
        answers += given.tolist()
        truth += true.tolist()
        begin += count
    return np.array(annotators), np.array(answers), np.array(truth)


def predictor(answers: Any, truth: Any) -> Any:
    """The best model: for each true class the most frequent answer among those it is fitted on."""

    def predict(fitted: Any, measured: Any) -> Any:
        means = [
            answers[fitted & (truth == each)].mean() if (fitted & (truth == each)).any() else 0
            for each in (0, 1)
        ]
        return np.array([int(means[each] > 0.5) for each in truth[measured]])

    return predict


@pytest.mark.parametrize(
    ("shares", "gone"),
    [
        ({"a": (60, "honest"), "b": (500, "constant")}, [2]),
        ({"a": (60, "honest"), "b": (60, "honest"), "c": (500, "random")}, [3]),
        ({"a": (100, "honest"), "b": (100, "honest"), "c": (100, "swapped")}, [3]),
        ({"a": (100, "honest"), "b": (300, "constant"), "c": (300, "constant")}, [2, 3]),
        ({"a": (100, "honest"), "b": (100, "honest")}, []),
        ({"a": (200, "constant"), "b": (200, "random")}, []),
        ({"a": (100, "honest"), "b": (19, "constant")}, []),
    ],
)
def test_who_is_set_aside(shares: Any, gone: list[int]) -> None:
    annotators, answers, truth = case(**shares)
    found = set_aside(annotators, answers, predictor(answers, truth))
    assert sorted(each.annotator for each in found) == gone
    assert all(each.certain for each in found)


def test_two_that_contradict_each_other_are_in_dispute() -> None:
    annotators, answers, truth = case(a=(100, "honest"), b=(100, "swapped"))
    (found,) = set_aside(annotators, answers, predictor(answers, truth))
    assert not found.certain


def test_the_served_model_settles_a_dispute() -> None:
    annotators, answers, truth = case(a=(100, "honest"), b=(150, "swapped"))
    (found,) = set_aside(annotators, answers, predictor(answers, truth), truth)
    assert (found.annotator, found.certain) == (2, True)
    assert "kappa" in found.reason


def test_no_annotator_outvotes_the_others() -> None:
    annotators = np.array([1] * 500 + [2] * 40 + [3] * 20)
    weights = annotator_weights(annotators, np.ones(560))
    assert weights[annotators == 1].sum() == pytest.approx(60)
    assert (weights[annotators != 1] == 1).all()


def test_one_answer_does_not_outvote_an_annotator() -> None:
    weights = annotator_weights(np.array([1] * 100 + [2]), np.ones(101))
    assert weights[:100].sum() == pytest.approx(50)
    assert (annotator_weights(np.ones(100, dtype=int), np.ones(100)) == 1).all()


def test_kappa() -> None:
    predicted, answered = np.array([0, 0, 1, 1] * 25), np.array([0, 0, 1, 0] * 25)
    assert agreement(predicted, answered).kappa == pytest.approx(0.5)
    assert agreement(predicted, predicted).kappa == 1
    assert agreement(np.zeros(100, dtype=int), answered).high == 0


def test_one_label_against_the_served_model() -> None:
    wrong = np.zeros(40, dtype=bool)
    assert one_label([("a",)] * 39 + [("b",)], wrong) == "a"
    assert one_label([("a",)] * 39 + [("b",)], ~wrong) is None
    assert one_label([("a",)] * 20 + [("b",)] * 20, wrong) is None
    assert one_label([("a",)] * 29, wrong[:29]) is None
