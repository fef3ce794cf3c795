"""The folded sum compiled for the CPU by numba: no padding, no graph, the interpreter's lock released.

Tap j of a filter bank is a table `T[v, j] = W[:, :, j] · E[v]`, and a window's value the sum of its words' rows (the module
text of `export/fold.py` has the derivation). E, W, biases and head are the named tensors of model.onnx, which every bundle has.

One table holds every tap of every width, float32[words, Σ widths, filters], the rows of a word side by side. The kernel takes
the rows of a batch one by one, each at its own length: padding costs nothing, and a long text no memory.
"""

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.compiled import compiled
from server.errors import BadBundle


class TablesEngine:
    """One table, read by as many threads as call; each call computes in its caller's thread."""

    name = "tables"
    device = "cpu"

    def __init__(self, bundle: Bundle) -> None:
        tensors = _tensors(bundle)
        self._widths = np.array(bundle.widths, dtype=np.int32)
        places = range(len(bundle.widths))
        try:
            taps = np.concatenate([tensors[f"taps{i}"].astype(np.float32) for i in places], axis=1)
            self._bias = np.stack([tensors[f"bias{i}"].astype(np.float32) for i in places])
            table: Floats = tensors["embedding"].astype(np.float32) @ taps
            self._table = table.reshape(len(table), sum(bundle.widths), self._bias.shape[1])
            if len(table) < len(bundle.vocabulary):
                # nothing in the kernel looks whether a word has a row
                raise ValueError(f"{len(table)} rows for {len(bundle.vocabulary)} tokens of vocab.txt")
            head: Floats = tensors["head"].astype(np.float32).T
            self._head = np.ascontiguousarray(head).reshape(len(head), *self._bias.shape)
            self._head_bias = tensors["head_bias"].astype(np.float32)
        except (KeyError, ValueError) as error:
            raise BadBundle(f"{bundle.path}/model.onnx: its tensors are not those of a folded network ({error}); export it again.") from None
        # the kernel is compiled, or its machine code loaded, at the first call of all
        self.run(np.zeros((1, 1), dtype=np.int32), np.zeros(1, dtype=np.int32))

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        logits = np.empty((len(lengths), len(self._head_bias)), dtype=np.float32)
        _logits(ids, lengths, self._table, self._bias, self._widths, self._head, self._head_bias, logits)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Floats = raised / raised.sum(axis=1, keepdims=True)
        return probabilities

    def close(self) -> None:
        """The table goes with its last reference; there is nothing to end."""


def _tensors(bundle: Bundle) -> dict[str, Any]:
    """The model's named tensors. Raises BadBundle."""
    path = bundle.file("model.onnx")
    try:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    except Exception as error:  # protobuf and onnx raise unrelated types
        raise BadBundle(f"{path}: cannot load it ({type(error).__name__}); export the bundle again.") from error


@compiled
def _logits(ids, lengths, table, bias, widths, head, head_bias, logits):  # type: ignore[no-untyped-def]  # numba infers the types
    """ids int32[rows, length], lengths int32[rows] → logits float32[rows, classes]: ReLU, the maximum over windows, the head.

    `head` is float32[classes, widths, filters]. A row of a table is taken before its filters are walked through: that is what
    lets the compiler use vectors.
    """
    filters = table.shape[2]
    window, best = np.empty(filters, np.float32), np.empty(filters, np.float32)
    for row in range(len(lengths)):
        scores = logits[row]
        scores[:] = head_bias
        first_tap = 0
        for bank in range(len(widths)):
            width, start = widths[bank], bias[bank]
            best[:] = 0.0
            for begin in range(lengths[row] - width + 1):
                window[:] = start
                for tap in range(width):
                    looked_up = table[ids[row, begin + tap], first_tap + tap]
                    for f in range(filters):
                        window[f] += looked_up[f]
                for f in range(filters):
                    best[f] = max(best[f], window[f])
            first_tap += width
            for label in range(len(scores)):
                weights = head[label, bank]
                for f in range(filters):
                    scores[label] += weights[f] * best[f]
