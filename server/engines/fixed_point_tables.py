"""The folded network as tables of integers: what a sum of looked-up rows can be taken of quickly, and
exactly.

A number of a table (`folded.py`) is kept in fixed point, 32 bits in two halves: `T · scale ≈ high · 65536 +
low`. The scale of a filter is such that the high halves of any of its windows add up within 16 bits, so that
the sum of high halves, a quarter of the work in floating point, never overflows. What it lacks is less than
one unit a tap; `tables.py` says what that is good for. With both halves the error of a number is 2⁻¹⁷ of a
unit, a hundredth of float32's at the top of the range.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from server.arrays import Floats
from server.bundle import Bundle
from server.engines.folded_weights import not_folded, read_folded_weights
from server.jit import compiled

LARGEST_SUM = 32_000
"""Of the high halves of one window. Below 2¹⁵ by more than one unit for each tap of the widest filter there
may be.
"""

HALF = 65_536
"""What a high half counts in units of a low half."""


@dataclass(frozen=True)
class Tables:
    """`high`, `low` int16[words, Σ widths, filters], the rows of a word side by side; `unit` float64[widths,
    filters], the value of a low half's unit; `bias` float32[widths, filters]; `head` float32[classes, widths,
    filters]; `head_bias` float32[classes]. Read-only.
    """

    high: npt.NDArray[np.int16]
    low: npt.NDArray[np.int16]
    widths: npt.NDArray[np.int32]
    unit: npt.NDArray[np.float64]
    bias: Floats
    head: Floats
    head_bias: Floats


def read_tables(bundle: Bundle) -> Tables:
    """Raises BadBundle."""
    folded = read_folded_weights(bundle)
    try:
        high, low, unit = in_fixed_point(folded.tables, bundle.widths)
    except ValueError as error:
        raise not_folded(bundle, error) from None
    tables = Tables(
        high, low, np.array(bundle.widths, dtype=np.int32), unit, folded.bias, folded.head, folded.head_bias
    )
    for each in fields(tables):
        getattr(tables, each.name).flags.writeable = False
    return tables


def in_fixed_point(
    numbers: Floats, widths: tuple[int, ...]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """float32[words, Σ widths, filters] → both halves, and the unit of each filter. Raises ValueError for
    numbers that are not finite.
    """
    largest = np.maximum(numbers.max(axis=0), -numbers.min(axis=0)).astype(np.float64)
    reach = np.stack([bank.sum(axis=0) for bank in np.split(largest, np.cumsum(widths)[:-1])])
    if not np.isfinite(reach).all():
        raise ValueError("a number in it is not finite")
    unit = np.where(reach > 0, reach, 1.0) / (LARGEST_SUM * HALF)
    high, low = np.empty(numbers.shape, np.int16), np.empty(numbers.shape, np.int16)
    _split(numbers, 1 / np.repeat(unit, widths, axis=0), high, low)
    return high, low, unit


@compiled
def _split(numbers, scale, high, low):  # type: ignore[no-untyped-def]  # numba infers the types
    """numbers float32[words, taps, filters] · scale float64[taps, filters] → both halves, rounded to nearest."""
    words, taps, filters = numbers.shape
    for word in range(words):
        for tap in range(taps):
            row, by, upper, lower = numbers[word, tap], scale[tap], high[word, tap], low[word, tap]
            for f in range(filters):
                fixed = np.int64(np.rint(row[f] * by[f]))
                half = (fixed + 32_768) >> 16
                upper[f] = half
                lower[f] = fixed - (half << 16)
