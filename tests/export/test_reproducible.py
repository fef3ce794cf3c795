"""Training fixes process-wide settings whatever other code has set, and restores them."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression  # loads OpenMP and BLAS, as training does
from threadpoolctl import threadpool_info, threadpool_limits

from export.reproducible import THREADS, flushes_denormals, reproducible

assert LogisticRegression
UPWARD = 0x800  # FE_UPWARD on x86
ONEDNN: Any = torch.backends.mkldnn  # whose parts torch's types lack


@contextmanager
def changed(get: Callable[[], Any], change: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = get()
    change(value)
    try:
        yield
    finally:
        change(before)


def rounding() -> list[Any]:
    library = ctypes.CDLL(None)
    return [library.fegetround, library.fesetround, UPWARD, 0]


@pytest.mark.parametrize(
    ("get", "change", "elsewhere", "in_training"),
    [
        (torch.get_num_threads, torch.set_num_threads, THREADS + 2, THREADS),
        (torch.get_default_dtype, torch.set_default_dtype, torch.float64, torch.float32),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 1, 2),
        (flushes_denormals, torch.set_flush_denormal, True, False),
        (
            lambda: ONEDNN.matmul.fp32_precision,
            lambda value: setattr(ONEDNN.matmul, "fp32_precision", value),
            "bf16",
            "ieee",
        ),
        rounding(),
    ],
    ids=["threads", "dtype", "deterministic", "denormals", "precision", "rounding"],
)
@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_setting_is_fixed_in_training_and_restored(
    get: Callable[[], Any], change: Callable[[Any], Any], elsewhere: Any, in_training: Any, ends: str
) -> None:
    @reproducible()
    def work() -> Any:
        if ends == "raises":
            raise KeyboardInterrupt(get())
        return get()

    with changed(get, change, elsewhere):
        try:
            found = work()
        except KeyboardInterrupt as error:
            (found,) = error.args
        assert found == in_training
        assert get() == elsewhere


def test_thread_pools_of_blas_and_openmp_have_one_thread_and_then_as_many_as_before() -> None:
    def sizes() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info()}

    with threadpool_limits(3):
        with reproducible():
            assert sizes() == {THREADS}
        assert sizes() == {3}


def test_random_numbers_continue_as_before() -> None:
    before = torch.get_rng_state()
    with reproducible():
        torch.manual_seed(1)
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
