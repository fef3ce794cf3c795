"""The folded network as tables of integers: what a sum of looked-up rows can be taken of quickly, and exactly.

Tap j of a filter bank is a table `T[v, j] = W[:, :, j] · E[v]`, and a window's value the sum of its words' rows (the module
text of `export/fold.py` has the derivation). E, W, biases and head are the named tensors of model.onnx, which every bundle has.

A number of a table is kept in fixed point, 32 bits in two halves: `T · scale ≈ high · 65536 + low`. The scale of a filter is
such that the high halves of any of its windows add up within 16 bits, so that the sum of high halves, a quarter of the work
in floating point, never overflows. What it lacks is less than one unit a tap; `tables.py` says what that is good for. With
both halves the error of a number is 2⁻¹⁷ of a unit, a hundredth of float32's at the top of the range.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from server.arrays import Floats
from server.bundle import Bundle
from server.compiled import compiled
from server.engines.model_file import read_model
from server.errors import BadBundle

LARGEST_SUM = 32_000
"""Of the high halves of one window. Below 2¹⁵ by more than one unit for each tap of the widest filter there may be."""

HALF = 65_536
"""What a high half counts in units of a low half."""


@dataclass(frozen=True)
class Tables:
    """`high`, `low` int16[words, Σ widths, filters], the rows of a word side by side; `unit` float64[widths, filters], the value of
    a low half's unit; `bias` float32[widths, filters]; `head` float32[classes, widths, filters]; `head_bias` float32[classes]. Read-only.
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
    tensors = _tensors(bundle)
    banks = range(len(bundle.widths))
    try:
        taps = np.concatenate([tensors[f"taps{i}"].astype(np.float32) for i in banks], axis=1)
        bias = np.stack([tensors[f"bias{i}"].astype(np.float32) for i in banks])
        numbers: Floats = tensors["embedding"].astype(np.float32) @ taps
        numbers = numbers.reshape(len(numbers), sum(bundle.widths), bias.shape[1])
        if len(numbers) < len(bundle.vocabulary):
            # nothing in the kernel looks whether a word has a row
            raise ValueError(f"{len(numbers)} rows for {len(bundle.vocabulary)} tokens of vocab.txt")
        head = np.ascontiguousarray(tensors["head"].astype(np.float32).T).reshape(-1, *bias.shape)
        head_bias = tensors["head_bias"].astype(np.float32)
        high, low, unit = in_fixed_point(numbers, bundle.widths)
    except (KeyError, ValueError) as error:
        raise BadBundle(f"{bundle.path}/model.onnx: its tensors are not those of a folded network ({error}); export it again.") from None
    tables = Tables(high, low, np.array(bundle.widths, dtype=np.int32), unit, bias, head, head_bias)
    for each in fields(tables):
        getattr(tables, each.name).flags.writeable = False
    return tables


def in_fixed_point(numbers: Floats, widths: tuple[int, ...]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """float32[words, Σ widths, filters] → both halves, and the unit of each filter. Raises ValueError for numbers that are not finite."""
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


def _tensors(bundle: Bundle) -> dict[str, Any]:
    """The model's named tensors. Raises BadBundle."""
    try:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in read_model(bundle).graph.initializer}
    except (TypeError, ValueError) as error:
        raise BadBundle(f"{bundle.path}/model.onnx: a tensor of it cannot be read ({error}); export the bundle again.") from error
