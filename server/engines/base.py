"""What an engine is: padded ids to probabilities. Padding, and long rows in pieces."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from server.arrays import Floats, Ids

MAX_PIECE = 8192
"""Tokens a row may have in one model call; a longer text goes through piece by piece, so memory stays
bounded.
"""


class Engine(Protocol):
    """One loaded model. `run` may be called from several threads at once.

    `device` is cpu, or GPUs such as cuda:0, separated by commas; `degraded` says why it is the CPU where a
    GPU was expected.
    """

    degraded: str | None

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        """ids int32[rows, length], lengths int32[rows] → probabilities float32[rows, classes].

        What stands in a row behind its length is ignored. Every length is at least the bundle's `min_length`.
        Raises MemoryError where the device's memory does not suffice for so many rows at once.
        """

    def close(self) -> None: ...


class NoCuda(Exception):
    """Why a model cannot run on a GPU, with the remedy, to follow "device=cuda, but "."""


def pad(rows: Sequence[Ids], length: int) -> tuple[Ids, Ids]:
    """Rows of ids → (ids int32[rows, length] filled with zeros, lengths int32[rows])."""
    ids = np.zeros((len(rows), length), dtype=np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids, np.array([len(row) for row in rows], dtype=np.int32)


def in_pieces(
    step: Callable[[Ids, Ids, Floats], tuple[Floats, Floats]],
    start: Floats,
    ids: Ids,
    lengths: Ids,
    *,
    widest: int,
) -> Floats:
    """The same answer as one call, with memory for one piece of one row.

    The maximum over windows is a maximum over pieces when pieces overlap by `widest` − 1 tokens, so that
    every window lies whole in one of them; `step` (ids, lengths, carry) → (probabilities, features) carries
    it along. The last piece of a row ends where the row ends, so that every piece is full.
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
