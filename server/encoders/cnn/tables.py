"""The folded CNN on the CPU: a sum over int16 tables, compiled by numba, with the GIL released.

For each filter the largest window is needed. It is found in two steps, over the tables of
`fixed_point_tables.py`:

    scan     sum the high halves of every window, in 16 bits: half the bytes of the whole numbers
    settle   sum both halves of the windows within one unit a tap of the largest: almost always one window

A sum of high halves is off by at most half a unit a tap, upwards or downwards, so no other window can be the
largest: the result equals that of all windows with all bits.

Rows run one by one, each at its own length: padding costs no time, and a long text no memory.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from server.arrays import Floats, Ids
from server.encoders.base import Tables, Tensors
from server.encoders.cnn.fixed_point_tables import HIGH_UNIT, to_fixed_point
from server.encoders.cnn.folded_weights import read_folded_weights
from server.jit import compiled

WINDOWS = 1024
"""Windows scanned and then settled at a time; their sums stay in the processor's cache."""


@dataclass(frozen=True)
class Int16Tables(Tables):
    """`high`, `low` int16[words, Σ widths, filters], in which the taps of a word are contiguous; `widths`
    int32[widths]; `unit` float64[widths, filters], the value of one unit of a low half; `bias`
    float32[widths, filters]; `head` float32[classes, widths, filters].
    """

    high: npt.NDArray[np.int16]
    low: npt.NDArray[np.int16]
    widths: npt.NDArray[np.int32]
    unit: npt.NDArray[np.float64]
    bias: Floats
    head: Floats

    def add_logits(self, ids: Ids, begins: Ids, ends: Ids, logits: Floats) -> None:
        """As in `encoders.base.Tables`."""
        _logits(self.bias.shape[1])(
            ids,
            begins,
            ends,
            self.high,
            self.low,
            self.widths,
            self.unit,
            self.bias,
            self.head,
            logits,
        )


def read_int16_tables(tensors: Tensors, widths: tuple[int, ...], words: int) -> Int16Tables:
    """Raises KeyError or ValueError for tensors that are not those of a folded CNN with `words` words."""
    folded = read_folded_weights(tensors, widths, words)
    if not (np.isfinite(folded.bias).all() and np.isfinite(folded.head).all()):
        raise ValueError("a number in it is not finite")
    high, low, unit = to_fixed_point(folded.tables, widths)
    return Int16Tables(high, low, np.array(widths, dtype=np.int32), unit, folded.bias, folded.head)


@lru_cache
def _logits(filters: int) -> Any:
    """The kernel for this number of filters: with a constant vector length the compiled code is a third
    faster.
    """

    @compiled
    def logits(ids, begins, ends, high, low, widths, unit, bias, head, out):  # type: ignore[no-untyped-def]  # numba infers the types
        """ids int32[rows, length], of which begins[row]:ends[row] count, and the tables → adds to out
        float32[rows, classes]: maximum over windows, ReLU, head.
        """
        sums = np.empty((WINDOWS, filters), np.int16)
        least, count, last = (
            np.empty(filters, np.int16),
            np.empty(filters, np.int16),
            np.empty(filters, np.int16),
        )
        best = np.empty(filters, np.float32)
        for row in range(len(begins)):
            first_tap = 0
            for bank in range(len(widths)):
                width = widths[bank]
                best[:] = 0.0
                windows = ends[row] - begins[row] - width + 1
                for window in range(0, windows, WINDOWS):
                    begin, end = begins[row] + window, begins[row] + min(window + WINDOWS, windows)
                    words = ids[row, begin : end + width - 1]
                    _scan(words, high, first_tap, width, sums, least, filters)
                    _candidates(len(words) - width + 1, width, sums, least, count, last, filters)
                    _settle(
                        words,
                        low,
                        first_tap,
                        width,
                        sums,
                        least,
                        count,
                        last,
                        unit[bank],
                        bias[bank],
                        best,
                        filters,
                    )
                first_tap += width
                for label in range(out.shape[1]):
                    weights = head[label, bank]
                    for f in range(filters):
                        out[row, label] += weights[f] * best[f]

    return logits


def _inlined(function: Any) -> Any:
    """Compiled into its callers, so that it sees their constants."""
    return numba.njit(nogil=True, forceinline=True)(function)


@_inlined
def _scan(words, high, first_tap, width, sums, largest, filters):  # type: ignore[no-untyped-def]
    """words int32[windows + width − 1] → sums int16[windows, filters] of high halves, and largest
    int16[filters].

    A table's row is looked up before the loop over its filters, which lets the compiler vectorize the loop.
    """
    for f in range(filters):
        largest[f] = -32_768
    for window in range(len(words) - width + 1):
        total = sums[window]
        looked_up = high[words[window], first_tap]
        for f in range(filters):
            total[f] = looked_up[f]
        for tap in range(1, width):
            looked_up = high[words[window + tap], first_tap + tap]
            for f in range(filters):
                total[f] += looked_up[f]
        for f in range(filters):
            largest[f] = max(largest[f], total[f])


@_inlined
def _candidates(windows, width, sums, least, count, last, filters):  # type: ignore[no-untyped-def]
    """`least` int16[filters] comes in as the largest sums and goes out as the bounds above which a window is
    a candidate. Also counts the candidates, and finds the index of the last one: int16[filters] each.
    """
    for f in range(filters):
        least[f] -= width
        count[f] = 0
    for window in range(windows):
        total = sums[window]
        this = np.int16(window)
        for f in range(filters):
            is_candidate = total[f] > least[f]
            count[f] += np.int16(is_candidate)
            last[f] = this if is_candidate else last[f]


@_inlined
def _settle(words, low, first_tap, width, sums, least, count, last, unit, bias, best, filters):  # type: ignore[no-untyped-def]
    """`best` float32[filters] is raised to the value of each filter's largest candidate, with both halves."""
    for f in range(filters):
        if count[f] == 1:
            largest = _whole(words, last[f], low, first_tap, width, sums, f)
        else:
            largest = np.int64(-(2**62))
            for window in range(len(words) - width + 1):
                if sums[window, f] > least[f]:
                    largest = max(largest, _whole(words, window, low, first_tap, width, sums, f))
        best[f] = max(best[f], np.float32(largest * unit[f] + bias[f]))


@_inlined
def _whole(words, window, low, first_tap, width, sums, f):  # type: ignore[no-untyped-def]
    """The exact sum of one window, in units of a low half."""
    total = np.int64(sums[window, f]) * HIGH_UNIT
    for tap in range(width):
        total += low[words[window + tap], first_tap + tap, f]
    return total
