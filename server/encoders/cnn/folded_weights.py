"""Reads the folded CNN's weights in float32 from the tensors of model.onnx.

Tap j of a filter bank is a table `T[v, j] = W[:, :, j] · E[v]`, and a window's value is the sum of its words'
rows (derivation: `export/folded_cnn.py`). E, W, biases and head are named tensors of model.onnx, which every
bundle has.
"""

from dataclasses import dataclass

import numpy as np

from server.arrays import Floats
from server.encoders.base import Tensors


@dataclass(frozen=True)
class FoldedWeights:
    """`tables` float32[words, Σ widths, filters], in which the taps of a word are contiguous; `bias`
    float32[widths, filters]; `head` float32[classes, widths, filters].
    """

    tables: Floats
    bias: Floats
    head: Floats


def read_folded_weights(tensors: Tensors, widths: tuple[int, ...], words: int) -> FoldedWeights:
    """Raises KeyError or ValueError for tensors that are not those of a folded CNN with `words` words."""
    banks = range(len(widths))
    taps = np.concatenate([tensors[f"taps{i}"].astype(np.float32) for i in banks], axis=1)
    bias = np.stack([tensors[f"bias{i}"].astype(np.float32) for i in banks])
    tables: Floats = tensors["embedding"].astype(np.float32) @ taps
    tables = tables.reshape(len(tables), sum(widths), bias.shape[1])
    if len(tables) < words:
        # the kernels do not check that a word has a row
        raise ValueError(f"{len(tables)} rows for {words} tokens of vocab.txt")
    head = np.ascontiguousarray(tensors["head"].astype(np.float32).T).reshape(-1, *bias.shape)
    return FoldedWeights(tables, bias, head)
