"""The n-grams' part of the logits on the CPU: a sum of looked-up rows of the head, compiled by numba, with
the GIL released.

    weight = (1 + ln occurrences) × idf        logits += Σ weight × head row / √Σ weight²

A row of the table holds an n-gram's idf and its row of the head, so that one look-up finds both.
"""

from dataclasses import dataclass

import numpy as np

from server.arrays import Floats, Ids
from server.encoders.base import Tables, Tensors
from server.encoders.ngrams.index import COUNT_BITS, MAX_COUNT
from server.jit import compiled


def tensor_names(position: int) -> tuple[str, str]:
    """The names of idf float32[n-grams + 1] and head float32[n-grams + 1, classes] in model.onnx, for the
    encoder at this place in the bundle. Row 0 is that of no n-gram, zero.
    """
    return f"idf{position}", f"ngram_head{position}"


@dataclass(frozen=True)
class NgramTables(Tables):
    """`rows` float32[n-grams + 1, 1 + classes]: idf, then the row of the head; row 0 is zero."""

    rows: Floats

    def add_logits(self, ids: Ids, begins: Ids, ends: Ids, logits: Floats) -> None:
        _add_logits(ids, begins, ends, self.rows, _TERM_WEIGHTS, logits)


def read_ngram_tables(tensors: Tensors, position: int, ngrams: int, classes: int) -> NgramTables:
    """Raises KeyError or ValueError for tensors that are not those of `ngrams` n-grams."""
    idf, head = (tensors[name].astype(np.float32) for name in tensor_names(position))
    if idf.shape != (ngrams + 1,) or head.shape != (ngrams + 1, classes):
        # the kernel does not check that an n-gram has a row
        raise ValueError(f"{len(idf)} rows for {ngrams} n-grams")
    if idf[0] != 0 or not (np.isfinite(idf).all() and np.isfinite(head).all()):
        raise ValueError("a number in it is not finite, or the row of no n-gram is not zero")
    return NgramTables(np.ascontiguousarray(np.column_stack([idf, head])))


_TERM_WEIGHTS = np.array([0.0, *(1 + np.log(np.arange(1, MAX_COUNT + 1)))], dtype=np.float32)
_TERM_WEIGHTS.flags.writeable = False


@compiled
def _add_logits(ids, begins, ends, rows, term_weights, logits):  # type: ignore[no-untyped-def]  # numba infers the types
    classes = logits.shape[1]
    for row in range(len(begins)):
        sums = np.zeros(classes, np.float64)
        squares = 0.0
        for at in range(begins[row], ends[row]):
            ngram = ids[row, at] >> COUNT_BITS
            weight = term_weights[ids[row, at] & MAX_COUNT] * rows[ngram, 0]
            squares += weight * weight
            for label in range(classes):
                sums[label] += weight * rows[ngram, 1 + label]
        if squares > 0:
            length = np.sqrt(squares)
            for label in range(classes):
                logits[row, label] += sums[label] / length
