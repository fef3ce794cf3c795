"""The folded sum compiled for the CPU by numba: no padding, no graph, the interpreter's lock released.

For each filter the largest window is wanted. It is found in two steps, over the tables of `fixed_point.py`:

    scan     the sum of the high halves, for every window; a quarter of the bytes of floating point, and 16 bits a number
    settle   the windows whose sum is within one unit a tap of the largest, with their low halves too; almost always one

A sum of high halves is off by at most half a unit a tap, upwards or downwards, so no other window can be the
largest: the answer is that of all windows with all bits.

The rows of a batch are taken one by one, each at its own length: padding costs nothing, and a long text no
memory.
"""

from functools import lru_cache
from typing import Any

import numba
import numpy as np

from server.arrays import Floats, Ids
from server.engines.fixed_point_tables import HALF, Tables
from server.jit import compiled

WINDOWS = 1024
"""Windows that are scanned before they are settled; their sums stay in the processor's cache."""


class TablesEngine:
    """One set of tables, read by as many threads as call; each call computes in its caller's thread."""

    name = "tables"
    device = "cpu"
    degraded: str | None = None

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._logits = _logits(tables.bias.shape[1])
        # the kernel is compiled, or its machine code loaded, at the first call of all
        self.run(np.zeros((1, 1), dtype=np.int32), np.zeros(1, dtype=np.int32))

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        tables = self._tables
        logits = np.empty((len(lengths), len(tables.head_bias)), dtype=np.float32)
        self._logits(
            ids,
            lengths,
            tables.high,
            tables.low,
            tables.widths,
            tables.unit,
            tables.bias,
            tables.head,
            tables.head_bias,
            logits,
        )
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Floats = raised / raised.sum(axis=1, keepdims=True)
        return probabilities

    def close(self) -> None:
        """The tables go with their last reference; there is nothing to end."""


@lru_cache
def _logits(filters: int) -> Any:
    """Compiled for a number of filters: a compiler that knows how long its vectors are makes code a third
    faster.
    """

    @compiled
    def logits(ids, lengths, high, low, widths, unit, bias, head, head_bias, out):  # type: ignore[no-untyped-def]  # numba infers the types
        """ids int32[rows, length], lengths int32[rows] → out float32[rows, classes]: ReLU, the maximum over
        windows, the head.
        """
        sums = np.empty((WINDOWS, filters), np.int16)
        least, found, place = (
            np.empty(filters, np.int16),
            np.empty(filters, np.int16),
            np.empty(filters, np.int16),
        )
        best = np.empty(filters, np.float32)
        for row in range(len(lengths)):
            out[row] = head_bias
            first_tap = 0
            for bank in range(len(widths)):
                width = widths[bank]
                best[:] = 0.0
                windows = lengths[row] - width + 1
                for begin in range(0, windows, WINDOWS):
                    words = ids[row, begin : min(begin + WINDOWS, windows) + width - 1]
                    _scan(words, high, first_tap, width, sums, least, filters)
                    _candidates(len(words) - width + 1, width, sums, least, found, place, filters)
                    _settle(
                        words,
                        low,
                        first_tap,
                        width,
                        sums,
                        least,
                        found,
                        place,
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
    """Part of the kernel, whose constants it sees."""
    return numba.njit(nogil=True, forceinline=True)(function)


@_inlined
def _scan(words, high, first_tap, width, sums, largest, filters):  # type: ignore[no-untyped-def]
    """words int32[windows + width − 1] → sums int16[windows, filters], and the largest of each filter.

    A row of a table is taken before its filters are walked through: that is what lets the compiler use
    vectors.
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
def _candidates(windows, width, sums, least, found, place, filters):  # type: ignore[no-untyped-def]
    """largest → `least`, which a candidate's sum is above; how many candidates each filter has, and the place
    of the last.
    """
    for f in range(filters):
        least[f] -= width
        found[f] = 0
    for window in range(windows):
        total = sums[window]
        here = np.int16(window)
        for f in range(filters):
            is_candidate = total[f] > least[f]
            found[f] += np.int16(is_candidate)
            place[f] = here if is_candidate else place[f]


@_inlined
def _settle(words, low, first_tap, width, sums, least, found, place, unit, bias, best, filters):  # type: ignore[no-untyped-def]
    """The largest of each filter's candidates, with both halves, into `best`."""
    for f in range(filters):
        if found[f] == 1:
            largest = _whole(words, place[f], low, first_tap, width, sums, f)
        else:
            largest = np.int64(-(2**62))
            for window in range(len(words) - width + 1):
                if sums[window, f] > least[f]:
                    largest = max(largest, _whole(words, window, low, first_tap, width, sums, f))
        best[f] = max(best[f], np.float32(largest * unit[f] + bias[f]))


@_inlined
def _whole(words, window, low, first_tap, width, sums, f):  # type: ignore[no-untyped-def]
    """A window's sum in units of a low half."""
    total = np.int64(sums[window, f]) * HALF
    for tap in range(width):
        total += low[words[window + tap], first_tap + tap, f]
    return total
