"""The engine interface: padded ids in, probabilities out. Also padding, and long rows in chunks."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.base import Encoder
from server.encoders.rows import chunks_of

MAX_CHUNK = 8192
"""Maximum tokens of a row in one model call, for each encoder. Longer rows run chunk by chunk, which bounds
the memory.
"""


class Engine(Protocol):
    """One loaded model. `run` is safe to call from several threads at once.

    `device` is cpu, or GPUs such as cuda:0, separated by commas. `degraded` says why the engine runs on the
    CPU although a GPU was expected.
    """

    degraded: str | None

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        """ids int32[rows, length], lengths int32[rows] → probabilities float32[rows, classes].

        Ids at or after a row's length are ignored. Every length is at least the bundle's `min_length`. Raises
        MemoryError if the device has too little memory for so many rows at once.
        """

    def close(self) -> None: ...


class CudaUnavailable(Exception):
    """Why a model cannot run on a GPU, and the remedy: completes the sentence "device=cuda, but …"."""


def token_cost(bundle: Bundle, engine: Engine) -> int:
    """What a token costs in this engine, as a multiple of one in tables or on a GPU."""
    return max(each.cpu_token_cost for each in bundle.encoders) if engine.device == "cpu" else 1


def pad(rows: Sequence[Ids], length: int) -> tuple[Ids, Ids]:
    """Rows of ids → (ids int32[rows, length] padded with zeros, lengths int32[rows])."""
    ids = np.zeros((len(rows), length), dtype=np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids, np.array([len(row) for row in rows], dtype=np.int32)


def run_in_chunks(
    step: Callable[[Ids, Ids, Floats], tuple[Floats, Floats]],
    start: Floats,
    ids: Ids,
    lengths: Ids,
    encoders: Sequence[Encoder],
    size: int = MAX_CHUNK,
) -> Floats:
    """The result of one call over `ids`, with the memory of one chunk of one row: at most `size` tokens of
    each encoder.

    `step` (ids, lengths, carry) → (probabilities, features) takes what the chunks before it carry over,
    `start` for the first.
    """
    outputs = []
    for row, length in zip(ids, lengths.tolist(), strict=True):
        carry = start
        for chunk in chunks_of(row[:length], encoders, size):
            whole = np.array([len(chunk)], dtype=np.int32)
            probabilities, carry = step(np.ascontiguousarray(chunk[None]), whole, carry)
        outputs.append(probabilities[0])
    return np.stack(outputs)
