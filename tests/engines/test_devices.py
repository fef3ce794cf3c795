"""The setting `device`, and the batch shapes of a GPU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engines.devices import CudaOptions, Grid, Shape, cuda_devices, device_number


@pytest.mark.parametrize(
    ("setting", "devices"),
    [
        ("cpu", ()),
        ("auto", ("cuda:0",)),
        ("cuda", ("cuda:0",)),
        ("cuda:3", ("cuda:3",)),
        ("cuda:0, cuda:12", ("cuda:0", "cuda:12")),
    ],
)
def test_the_setting_names_gpus(setting: str, devices: tuple[str, ...]) -> None:
    assert cuda_devices(setting) == devices


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("tpu", "must be"),
        ("cuda,cuda:1", "must be"),
        ("cpu,cuda:0", "must be"),
        ("", "must be"),
        ("cuda:1,cuda:1", "twice"),
    ],
)
def test_any_other_setting_is_an_error(setting: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        cuda_devices(setting)


def test_a_gpu_has_a_number() -> None:
    assert device_number("cuda:12") == 12


def test_the_shapes_of_a_small_grid() -> None:
    grid = Grid((8, 20), 48)
    assert [(shape.rows, shape.length) for shape in grid.shapes] == [
        (1, 8),
        (2, 8),
        (4, 8),
        (6, 8),
        (1, 20),
        (2, 20),
    ]
    assert grid.fit(3, 5) == Shape(4, 8)
    assert grid.fit(5, 8) == Shape(6, 8)
    assert grid.fit(1, 9) == Shape(1, 20)
    assert (grid.max_rows(8), grid.max_rows(9), grid.max_rows(21)) == (6, 2, None)


def test_a_row_longer_than_the_budget_runs_alone() -> None:
    grid = Grid((64,), 10)
    assert grid.shapes == (Shape(1, 64),)
    assert grid.max_rows(40) == 1


def test_memory_bounds_the_rows_of_a_call() -> None:
    """As attention needs it: the square of the length."""
    grid = Grid((4, 8, 20), 48).within(lambda length: length**2, 150)
    assert [grid.max_rows(length) for length in (4, 8, 20)] == [9, 2, 1]
    assert [shape.rows for shape in grid.shapes] == [1, 2, 4, 8, 9, 1, 2, 1]
    assert grid.fit(5, 4) == Shape(8, 4)
    assert grid.largest_first()[:3] == [Shape(1, 20), Shape(9, 4), Shape(8, 4)]


def test_without_memory_for_one_row_a_call_has_one() -> None:
    """Its first call tells whether the estimate was too high."""
    assert Grid((8,), 48).within(lambda length: length**2, -1).shapes == (Shape(1, 8),)


def test_rows_that_take_next_to_nothing_are_not_bounded() -> None:
    assert Grid((8,), 48).within(lambda _: 0, 1) == Grid((8,), 48)


@given(rows=st.integers(1, 2000), length=st.integers(1, 4096))
def test_a_shape_fits_its_rows_with_little_padding(rows: int, length: int) -> None:
    grid = CudaOptions().grid
    most = grid.max_rows(length)
    assert most is not None
    shape = grid.fit(min(rows, most), length)
    assert shape in grid.shapes
    assert shape.rows >= min(rows, most) > shape.rows // 2 or shape.rows == most
    assert shape.length >= length
    assert shape.rows * shape.length <= max(grid.budget, shape.length)
