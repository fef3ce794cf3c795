"""Reads the folded network's weights in float32 from model.onnx.

Tap j of a filter bank is a table `T[v, j] = W[:, :, j] · E[v]`, and a window's value is the sum of its words'
rows (derivation: `export/folded_cnn.py`). E, W, biases and head are named tensors of model.onnx, which every
bundle has.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import numpy_helper

from server.arrays import Floats
from server.bundle import Bundle
from server.engines.onnx_file import read_model
from server.errors import BadBundle


@dataclass(frozen=True)
class FoldedWeights:
    """`tables` float32[words, Σ widths, filters], in which the taps of a word are contiguous; `bias`
    float32[widths, filters]; `head` float32[classes, widths, filters]; `head_bias` float32[classes].
    """

    tables: Floats
    bias: Floats
    head: Floats
    head_bias: Floats


def read_folded_weights(bundle: Bundle) -> FoldedWeights:
    """Raises BadBundle."""
    tensors = read_tensors(bundle)
    banks = range(len(bundle.widths))
    try:
        taps = np.concatenate([tensors[f"taps{i}"].astype(np.float32) for i in banks], axis=1)
        bias = np.stack([tensors[f"bias{i}"].astype(np.float32) for i in banks])
        tables: Floats = tensors["embedding"].astype(np.float32) @ taps
        tables = tables.reshape(len(tables), sum(bundle.widths), bias.shape[1])
        if len(tables) < len(bundle.vocabulary):
            # the kernels do not check that a word has a row
            raise ValueError(f"{len(tables)} rows for {len(bundle.vocabulary)} tokens of vocab.txt")
        head = np.ascontiguousarray(tensors["head"].astype(np.float32).T).reshape(-1, *bias.shape)
        head_bias = tensors["head_bias"].astype(np.float32)
    except (KeyError, ValueError) as error:
        raise bad_weights(bundle, error) from None
    return FoldedWeights(tables, bias, head, head_bias)


def bad_weights(bundle: Bundle, reason: Exception) -> BadBundle:
    return BadBundle(
        f"{bundle.path}/model.onnx: its tensors are not those of a folded network ({reason}); export it "
        "again."
    )


def read_tensors(bundle: Bundle) -> dict[str, Any]:
    """The named tensors of model.onnx as numpy arrays. Raises BadBundle."""
    try:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in read_model(bundle).graph.initializer}
    except (TypeError, ValueError) as error:
        raise BadBundle(
            f"{bundle.path}/model.onnx: a tensor of it cannot be read ({error}); export the bundle again."
        ) from error
