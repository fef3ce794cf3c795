"""The gate: intervals over groups, and what it refuses."""

from typing import Any

import numpy as np

from export.learning.gate import Compared, judge, mean_of


def compared(new: Any, served: Any, annotators: Any = None, groups: Any = None) -> Compared:
    """Log probabilities; above log(0.5) is right."""
    new, served = np.asarray(new, dtype=float), np.asarray(served, dtype=float)
    count = len(new)
    return Compared(
        new,
        new > np.log(0.5),
        served,
        served > np.log(0.5),
        np.ones(count),
        np.arange(count) if groups is None else np.asarray(groups),
        np.ones(count, dtype=np.intp) if annotators is None else np.asarray(annotators),
    )


def chance(count: int) -> Any:
    return np.full(count, np.log(0.4))


def test_a_better_model_is_accepted_and_the_same_one_is_not() -> None:
    random = np.random.default_rng(1)
    served = np.log(random.uniform(0.3, 0.9, 100))
    assert judge(compared(np.log(random.uniform(0.6, 0.95, 100)), served), chance(100)).accepted
    assert not judge(compared(served, served), chance(100)).accepted


def test_answers_to_equal_texts_are_one_observation() -> None:
    gains = np.array([1.0, *[0.0] * 9, *[1.0] * 90])
    alone = mean_of(gains, np.ones(100), np.arange(100))
    together = mean_of(gains, np.ones(100), np.array([*range(10), *[10] * 90]))
    assert alone.lower(0.9) > 0.8
    assert together.lower(0.9) < 0.1


def test_one_group_proves_nothing() -> None:
    assert mean_of(np.ones(50), np.ones(50), np.zeros(50, dtype=int)).lower(0.9) == -np.inf


def test_a_gain_in_log_loss_with_fewer_right_answers_is_refused() -> None:
    served = np.log([0.51] * 90 + [1e-3] * 10)
    verdict = judge(compared(np.log([0.49] * 30 + [0.6] * 60 + [0.49] * 10), served), chance(100))
    assert verdict.gain.lower(0.9) > 0
    assert not verdict.accepted


def test_a_model_that_is_worse_for_one_annotator_is_refused() -> None:
    random = np.random.default_rng(1)
    served = np.log(random.uniform(0.5, 0.6, 120))
    new = np.log(np.concatenate([random.uniform(0.85, 0.95, 100), random.uniform(0.1, 0.2, 20)]))
    verdict = judge(compared(new, served, [1] * 100 + [2] * 20), chance(120))
    assert verdict.worse_for == [2]
    assert not verdict.accepted


def test_a_model_that_knows_the_frequencies_only_is_refused() -> None:
    served = np.log(np.tile([0.01, 0.99], 50))
    verdict = judge(compared(chance(100), served), chance(100))
    assert verdict.gain.lower(0.9) > 0
    assert not verdict.informed
    assert not verdict.accepted


def test_a_single_answer_cannot_decide() -> None:
    served = np.log(np.full(50, 0.6))
    served[0] = -1e9
    assert not judge(compared(np.log(np.full(50, 0.6)), served), chance(50)).accepted
