"""The CPU engine: each encoder's tables add their part to the logits of a row, in compiled code without the
GIL.
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from server.arrays import Floats, Ids
from server.bundle import Bundle, Head
from server.encoders import rows
from server.encoders.base import Tables
from server.engines.heads import PROBABILITIES
from server.engines.onnx_file import bad_weights, read_tensors


class TablesEngine:
    """One set of tables for all threads; each call computes in its caller's thread."""

    name = "tables"
    device = "cpu"
    degraded: str | None = None

    def __init__(self, encoders: Sequence[Tables], head_bias: Floats, head: Head = "softmax") -> None:
        """`encoders` has the tables of each encoder; `head_bias` float32[classes]."""
        self._encoders = encoders
        self._head_bias = head_bias
        self._to_probabilities = PROBABILITIES[head]
        # the first call compiles the kernels or loads their machine code from the cache
        header = len(encoders) - 1
        self.run(np.zeros((1, header + 1), dtype=np.int32), np.full(1, header, dtype=np.int32))

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        logits = np.empty((len(lengths), len(self._head_bias)), dtype=np.float32)
        logits[:] = self._head_bias
        for tables, (begins, ends) in zip(
            self._encoders, rows.bounds(ids, lengths, len(self._encoders)), strict=True
        ):
            tables.add_logits(ids, begins, ends, logits)
        return self._to_probabilities(logits).astype(np.float32, copy=False)

    def close(self) -> None:
        """Nothing to do: the tables are freed with their last reference."""


def read_tables(bundle: Bundle) -> tuple[list[Tables], Floats]:
    """The tables of each encoder, and the head's bias float32[classes]. Raises BadBundle."""
    tensors = read_tensors(bundle)
    try:
        tables = [
            encoder.read_tables(tensors, position, len(bundle.labels))
            for position, encoder in enumerate(bundle.encoders)
        ]
        head_bias = tensors["head_bias"].astype(np.float32)
        if head_bias.shape != (len(bundle.labels),) or not np.isfinite(head_bias).all():
            raise ValueError(f"head_bias is not {len(bundle.labels)} finite numbers")
    except (KeyError, ValueError) as error:
        raise bad_weights(bundle, error) from None
    for each in tables:
        for field in fields(each):
            getattr(each, field.name).flags.writeable = False
    return tables, head_bias
