"""What an engine is, and the one place that chooses one.

An engine turns padded ids into probabilities. Each is imported only when chosen, so that serving with ONNX Runtime
needs no torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.errors import BadSetting

ENGINES = ("auto", "tables", "onnx", "torchscript")

MAX_PIECE = 8192
"""Tokens a row may have in one model call; a longer text goes through piece by piece, so memory stays bounded."""


class Engine(Protocol):
    """One loaded model. `run` may be called from several threads at once."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        """ids int32[rows, length], lengths int32[rows] → probabilities float32[rows, classes].

        What stands in a row behind its length is ignored. Every length is at least the bundle's `min_length`. Raises MemoryError where
        the device's memory does not suffice for so many rows at once.
        """

    def close(self) -> None: ...


def open_engine(bundle: Bundle, *, engine: str = "auto", device: str = "auto", shared: Path | None = None) -> Engine:
    """`engine`: auto, tables, onnx or torchscript; `device`: auto, cpu or cuda; `shared`: a folder for tables that several processes
    read. Raises BadSetting, BadBundle.

    `auto` is ONNX Runtime where it runs on CUDA, else the tables.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise BadSetting(f"device={device!r}: it must be auto, cpu or cuda.")
    match engine:
        case "auto":
            from server.engines.onnx_runtime import OnnxEngine, has_cuda

            if device == "cuda" or (device == "auto" and has_cuda()):
                on_cuda = OnnxEngine(bundle, device)
                if on_cuda.device == "cuda":
                    return on_cuda
            return _tables(bundle, "cpu", shared)
        case "tables":
            return _tables(bundle, device, shared)
        case "onnx":
            from server.engines.onnx_runtime import OnnxEngine

            return OnnxEngine(bundle, device)
        case "torchscript":
            try:
                from server.engines.torch_script import TorchScriptEngine
            except ModuleNotFoundError as error:
                raise BadSetting("engine=torchscript needs torch, which is not installed: install prelabel[export], or set engine=onnx.") from error
            return TorchScriptEngine(bundle, device)
        case _:
            raise BadSetting(f"engine={engine!r}: it must be one of {', '.join(ENGINES)}.")


def _tables(bundle: Bundle, device: str, shared: Path | None) -> Engine:
    from server.engines.fixed_point import read_tables
    from server.engines.mapped import mapped_tables
    from server.engines.tables import TablesEngine

    if device == "cuda":
        raise BadSetting("engine=tables runs on the CPU: for device=cuda set engine=onnx.")
    return TablesEngine(mapped_tables(bundle, shared) if shared else read_tables(bundle))


def pad(rows: Sequence[Ids], length: int) -> tuple[Ids, Ids]:
    """Rows of ids → (ids int32[rows, length] filled with zeros, lengths int32[rows])."""
    ids = np.zeros((len(rows), length), dtype=np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids, np.array([len(row) for row in rows], dtype=np.int32)


def in_pieces(step: Callable[[Ids, Ids, Floats], tuple[Floats, Floats]], start: Floats, ids: Ids, lengths: Ids, *, widest: int) -> Floats:
    """The same answer as one call, with memory for one piece of one row.

    The maximum over windows is a maximum over pieces when pieces overlap by `widest` − 1 tokens, so that every
    window lies whole in one of them; `step` (ids, lengths, carry) → (probabilities, features) carries it along.
    The last piece of a row ends where the row ends, so that every piece is full.
    """
    answers = []
    for row, length in zip(ids, lengths.tolist(), strict=True):
        size = min(length, MAX_PIECE)
        carry, begin = start, 0
        while True:
            begin = min(begin, length - size)
            piece = np.ascontiguousarray(row[None, begin : begin + size])
            probabilities, carry = step(piece, np.array([size], dtype=np.int32), carry)
            if begin + size == length:
                answers.append(probabilities[0])
                break
            begin += size - (widest - 1)
    return np.stack(answers)
