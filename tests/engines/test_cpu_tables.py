"""Scan and settle give the same result as all windows with all bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.arrays import Floats
from server.encoders.cnn.fixed_point_tables import HIGH_UNIT, MAX_HIGH_SUM, to_fixed_point
from server.encoders.cnn.tables import WINDOWS, Int16Tables
from server.engines.base import pad
from server.engines.cpu_tables import TablesEngine

WORDS = 40


def tables(numbers: Floats, widths: tuple[int, ...], seed: int = 1) -> Int16Tables:
    """A network with these tables and a random head of 3 classes, to which every filter contributes."""
    random = np.random.default_rng(seed)
    filters = numbers.shape[2]
    bias, head = (
        random.normal(size=(len(widths), filters)),
        random.normal(size=(3, len(widths), filters)) / 10,
    )
    high, low, unit = to_fixed_point(numbers, widths)
    return Int16Tables(
        high,
        low,
        np.array(widths, np.int32),
        unit,
        bias.astype(np.float32),
        head.astype(np.float32),
    )


def engine(network: Int16Tables) -> TablesEngine:
    return TablesEngine([network], np.zeros(3, np.float32))


def expected(numbers: Floats, network: Int16Tables, row: list[int]) -> Floats:
    """All windows, in float64."""
    features, first = [], 0
    for bank, width in enumerate(network.widths):
        windows = len(row) - width + 1
        sums = sum(numbers[row[tap : tap + windows], first + tap].astype(np.float64) for tap in range(width))
        features.append(np.maximum(np.max(sums + network.bias[bank], axis=0), 0))
        first += width
    logits = np.einsum("lbf,bf->l", network.head.astype(np.float64), np.stack(features))
    raised = np.exp(logits - logits.max())
    probabilities: Floats = (raised / raised.sum()).astype(np.float32)
    return probabilities


def random_numbers(widths: tuple[int, ...], filters: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(WORDS, sum(widths), filters)).astype(np.float32)


@pytest.mark.parametrize(
    ("widths", "filters"), [((3, 5, 7), 100), ((1,), 1), ((2, 9), 37), ((4, 4, 4, 4), 16)]
)
def test_the_result_is_that_of_all_windows_with_all_bits(widths: tuple[int, ...], filters: int) -> None:
    numbers = random_numbers(widths, filters, filters)
    network = tables(numbers, widths)
    rows = [
        np.random.default_rng(i).integers(0, WORDS, length).astype(np.int32)
        for i, length in enumerate((9, 10, 57, 300, WINDOWS + 5, 2 * WINDOWS + 8))
    ]
    results = engine(network).run(*pad(rows, max(map(len, rows))))
    for row, result in zip(rows, results, strict=True):
        assert np.abs(result - expected(numbers, network, row.tolist())).max() <= 2e-6


@settings(deadline=None)  # the first example compiles
@given(st.lists(st.integers(0, 3), min_size=3, max_size=60), st.integers(0, 1000))
def test_nearly_equal_windows_are_settled_exactly(row: list[int], seed: int) -> None:
    """Few words, whose numbers differ by less than a unit of the high half: the scan cannot rank them."""
    numbers = random_numbers((2, 3), 5, 1)
    numbers[:4] = (
        numbers[0] + np.random.default_rng(seed).normal(size=numbers[:4].shape).astype(np.float32) * 1e-5
    )
    network = tables(numbers, (2, 3))
    result = engine(network).run(*pad([np.array(row, np.int32)], len(row)))[0]
    assert np.abs(result - expected(numbers, network, row)).max() <= 2e-6


def test_an_outlier_word_does_not_reduce_the_precision_of_others() -> None:
    numbers = random_numbers((3, 5), 20, 2)
    numbers[7] *= 1e4
    network = tables(numbers, (3, 5))
    row = [word for word in range(WORDS) if word != 7]
    result = engine(network).run(*pad([np.array(row, np.int32)], len(row)))[0]
    assert np.abs(result - expected(numbers, network, row)).max() <= 2e-6


def test_both_halves_are_exact_to_half_a_unit_and_no_window_overflows() -> None:
    numbers = random_numbers((3, 5), 20, 3)
    numbers[:, :, 4] = 0
    high, low, unit = to_fixed_point(numbers, (3, 5))
    units = np.repeat(unit, (3, 5), axis=0)
    assert (
        np.abs((high.astype(np.int64) * HIGH_UNIT + low) * units - numbers.astype(np.float64)).max()
        <= units.max() / 2 * 1.001
    )
    for bank in np.split(np.abs(high.astype(np.int64)).max(axis=0), [3]):
        assert bank.sum(axis=0).max() <= MAX_HIGH_SUM + len(bank)


def test_a_number_that_is_not_finite_is_an_error() -> None:
    numbers = random_numbers((3,), 2, 1)
    numbers[5, 1, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        to_fixed_point(numbers, (3,))
