"""The order of tasks: what is uncertain first, and near-duplicates apart."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from scipy.sparse import csr_array, issparse

from export.encoders.base import Numbers
from export.learning.order import CHOSEN, features_of, usefulness
from server.learning.triggers import Order

ORDERS: tuple[Order, ...] = get_args(Order)

WORDS = ["printer", "network", "invoice", "keyboard", "salary", "battery", "window", "contract", "coffee"]
WORDS += ["parking"]


def made_up(topics: int, copies: int) -> tuple[list[str], list[int]]:
    """Near-duplicates of some texts, and the topic of each."""
    random = np.random.default_rng(0)
    texts, found = [], []
    for topic in range(topics):
        words = [WORDS[topic], *(f"{WORDS[topic]}{number}" for number in random.integers(1_000, 9_999, 6))]
        for copy in range(copies):
            texts.append(" ".join(random.permutation(words)) + "!" * copy)
            found.append(topic)
    return texts, found


def answers(tasks: int, classes: int = 3) -> Numbers:
    return np.random.default_rng(0).dirichlet(np.ones(classes), tasks)


def margins(probabilities: Numbers) -> Numbers:
    best = np.sort(probabilities, axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


@pytest.mark.parametrize("rule", ORDERS)
@pytest.mark.parametrize("tasks", [0, 1, 2, 30, CHOSEN + 50])
@pytest.mark.parametrize("model", [True, False])
def test_scores_are_a_strict_order_from_0_to_1_and_the_same_again(
    rule: Order, tasks: int, model: bool
) -> None:
    features = features_of([f"text {number} of {number % 7}" for number in range(tasks)])
    probabilities = answers(tasks) if model else None
    scores = usefulness(probabilities, features, rule)
    assert scores.shape == (tasks,)
    assert scores.dtype == np.float64
    assert len(set(scores)) == tasks
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores == usefulness(probabilities, features, rule)).all()


@pytest.mark.parametrize("rule", ORDERS)
def test_another_seed_gives_another_order(rule: Order) -> None:
    features = features_of([f"text {number}" for number in range(50)])
    assert (usefulness(None, features, rule, 1) != usefulness(None, features, rule, 2)).any()


@pytest.mark.parametrize("model", [True, False])
def test_the_first_tasks_are_no_near_duplicates(model: bool) -> None:
    texts, topics = made_up(10, 30)
    probabilities = np.tile([0.4, 0.6], (len(texts), 1)) if model else None
    order = np.argsort(usefulness(probabilities, features_of(texts), "diverse"))
    first = [topics[task] for task in order[:10]]
    assert len(set(first)) >= 8
    assert all(one != other for one, other in pairwise(first))


def test_uncertain_orders_by_the_margin() -> None:
    probabilities = answers(400)
    order = np.argsort(usefulness(probabilities, csr_array((400, 5)), "uncertainty"))
    assert (np.diff(margins(probabilities)[order]) >= 0).all()


def test_with_several_labels_the_one_nearest_to_a_half_counts() -> None:
    probabilities = np.array([[0.9, 0.9, 0.9], [0.05, 0.45, 0.99], [0.2, 0.01, 0.01], [0.49, 0.0, 1.0]])
    order = np.argsort(usefulness(probabilities, np.eye(4), "uncertainty", several=True))
    assert order.tolist() == [3, 1, 2, 0]
    # no label reaches 0.5, and all of them are below: certain of none
    sure = usefulness(np.array([[0.5, 0.0], [0.0, 0.0]]), np.eye(2), "diverse", several=True)
    assert sure.tolist() == [0, 1]


def test_diverse_prefers_the_uncertain_and_ends_with_the_certain() -> None:
    texts = [f"{WORDS[number % 10]} {number} {number * 7}" for number in range(CHOSEN * 3)]
    certain = np.arange(len(texts)) % 2 == 1
    probabilities = np.where(certain[:, None], [0.99, 0.01], [0.55, 0.45])
    order = np.argsort(usefulness(probabilities, features_of(texts), "diverse"))
    assert not certain[order[:50]].any()
    assert certain[order[-CHOSEN:]].all()


@pytest.mark.parametrize("rule", ORDERS)
@pytest.mark.parametrize("text", ["the same text", "", " \n"])
def test_equal_and_empty_texts_have_an_order_too(rule: Order, text: str) -> None:
    scores = usefulness(answers(40), features_of([text] * 40), rule)
    assert sorted(scores) == [number / 39 for number in range(40)]
    assert len(set(usefulness(None, features_of([text] * 40), rule))) == 40


def test_an_empty_text_is_one_of_many_different_ones() -> None:
    order = np.argsort(usefulness(None, features_of([*[""] * 20, *WORDS]), "diverse"))
    assert set(order[: len(WORDS)]) >= {20, 21}


def test_texts_without_anything_in_common_have_an_order() -> None:
    assert len(set(usefulness(None, csr_array(np.eye(100)), "diverse"))) == 100


def test_one_class_and_certain_answers_have_an_order() -> None:
    for probabilities in (np.ones((30, 1)), np.tile([1.0, 0.0], (30, 1))):
        for rule in ORDERS:
            assert len(set(usefulness(probabilities, np.eye(30), rule))) == 30


def test_dense_features_give_the_order_of_sparse_ones() -> None:
    dense = np.random.default_rng(0).random((60, 8))
    one, other = (usefulness(answers(60), each, "diverse") for each in (dense, csr_array(dense)))
    assert (one == other).all()


def test_features_are_rows_of_length_1() -> None:
    features = features_of(["one word", "日本語の文章", "a", "", "x" * 100_000])
    assert issparse(features)
    lengths = np.sqrt(features.multiply(features).sum(axis=1))
    np.testing.assert_allclose(lengths, [1, 1, 1, 0, 1])
    assert features_of([]).shape == (0, features.shape[1])


def test_texts_that_differ_in_few_letters_are_near() -> None:
    texts = [
        "Der Drucker druckt nicht mehr.",
        "Die Drucker drucken nicht.",
        "日本語の文章です",
        "日本語の文章",
    ]
    near = (features_of(texts) @ features_of(texts).T).toarray()
    assert near[0, 1] > 2 * near[0, 2]
    assert near[2, 3] > 0.3
