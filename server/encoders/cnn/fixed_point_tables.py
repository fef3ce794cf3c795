"""The folded network as int16 tables: fixed-point numbers in two halves, for a fast and exact sum.

A number of a table (`folded_weights.py`) is a 32-bit fixed-point number in two halves: `T · scale ≈ high ·
65536 + low`. The scale of a filter is such that the high halves of any window sum up within 16 bits: the sum
of high halves never overflows, and costs a third of the sum in float32 (`benchmarks/kernels.py`). Its error
is less than one unit a tap (`tables.py` makes use of that). With both halves the error of a number is
2⁻¹⁷ of a unit, a hundredth of float32's at the top of the range.
"""

import numpy as np
import numpy.typing as npt

from server.arrays import Floats
from server.jit import compiled

MAX_HIGH_SUM = 32_000
"""Largest sum of the high halves of one window: below 2¹⁵ by more than one unit for each tap of the widest
filter allowed.
"""

HIGH_UNIT = 65_536
"""One unit of a high half, in units of a low half."""


def to_fixed_point(
    numbers: Floats, widths: tuple[int, ...]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """numbers float32[words, Σ widths, filters] → (high, low, unit), as in `tables.Int16Tables`. Raises
    ValueError for a number that is not finite.
    """
    largest = np.maximum(numbers.max(axis=0), -numbers.min(axis=0)).astype(np.float64)
    reach = np.stack([bank.sum(axis=0) for bank in np.split(largest, np.cumsum(widths)[:-1])])
    if not np.isfinite(reach).all():
        raise ValueError("a number in it is not finite")
    unit = np.where(reach > 0, reach, 1.0) / (MAX_HIGH_SUM * HIGH_UNIT)
    high, low = np.empty(numbers.shape, np.int16), np.empty(numbers.shape, np.int16)
    _split(numbers, 1 / np.repeat(unit, widths, axis=0), high, low)
    return high, low, unit


@compiled
def _split(numbers, scale, high, low):  # type: ignore[no-untyped-def]  # numba infers the types
    """numbers float32[words, taps, filters] · scale float64[taps, filters], rounded → high, low."""
    words, taps, filters = numbers.shape
    for word in range(words):
        for tap in range(taps):
            row, by, upper, lower = numbers[word, tap], scale[tap], high[word, tap], low[word, tap]
            for f in range(filters):
                fixed = np.int64(np.rint(row[f] * by[f]))
                half = (fixed + 32_768) >> 16
                upper[f] = half
                lower[f] = fixed - (half << 16)
