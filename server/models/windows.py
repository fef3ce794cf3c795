"""Texts that are longer than a network reads: their rows, and the mean of what comes back for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from server.arrays import Bools, Floats, Ids
from server.bundle import Head
from server.encoders import rows
from server.encoders.base import Encoder
from server.engines.heads import PROBABILITIES, Numbers

LEAST = float(np.finfo(np.float32).tiny)
"""Probabilities closer to 0 than this count as this: their logits are finite."""

LEAST_BELOW_1 = 2.0**-25
"""As LEAST, for the distance from 1: a float32 of 1 stands for all that is closer."""


@dataclass(frozen=True)
class Windows:
    """`rows` for the network; `texts` int32[rows] says which text each is of, and `tokens` float64[rows] how
    much each counts in its text, None that all its tokens count; both are None if each text has one row.
    `truncated` is the number of texts that were cut.
    """

    rows: Sequence[Ids]
    texts: Ids | None = None
    truncated: int = 0
    tokens: Numbers | None = None

    @classmethod
    def of(cls, encoded: Sequence[Ids], encoders: Sequence[Encoder]) -> Self:
        """The rows of texts, `encoded` as `Tokenizer.encode` does. For long texts it takes too long for the
        event loop.
        """
        if all(encoder.max_length is None for encoder in encoders):
            return cls(encoded)
        found = [rows.windows_of(row, encoders) for row in encoded]
        truncated = sum(rows.is_cut(row, encoders) for row in encoded)
        counts, all_rows = [len(each) for each in found], [row for each in found for row in each]
        if max(counts, default=1) == 1:
            return cls(all_rows, truncated=truncated)
        texts = np.repeat(np.arange(len(found)), counts).astype(np.int32)
        if len(encoders) == 1:
            return cls(all_rows, texts, truncated)
        tokens = np.array([rows.window_tokens(row, encoders) for row in all_rows], dtype=np.float64)
        return cls(all_rows, texts, truncated, tokens)

    def mean(self, probabilities: Floats, head: Head) -> Floats:
        """float32[rows, classes] → float32[texts, classes]: the mean of the logits of a text's rows, weighted
        by their tokens.
        """
        if self.texts is None:
            return probabilities
        if not probabilities.size:  # every model call failed
            return np.zeros((self.texts[-1] + 1, probabilities.shape[1]), dtype=np.float32)
        means = self.mean_logits(_logits(probabilities.astype(np.float64), head))
        merged = PROBABILITIES[head](means).astype(np.float32)
        begins = self._begins
        whole = np.diff(begins, append=len(self.rows)) == 1
        merged[whole] = probabilities[begins[whole]]
        return merged

    def mean_logits(self, logits: Numbers) -> Numbers:
        """The same for logits: [rows, classes] → [texts, classes]."""
        if self.texts is None:
            return logits
        weights = (
            np.array([len(row) for row in self.rows], dtype=np.float64)
            if self.tokens is None
            else self.tokens
        )
        sums: Numbers = np.add.reduceat(logits * weights[:, None], self._begins)
        means: Numbers = sums / np.add.reduceat(weights, self._begins)[:, None]
        return means

    def all_of(self, answered: Bools) -> Bools:
        """bool[rows] → bool[texts]: whether all rows of a text are answered."""
        if self.texts is None:
            return answered
        found: Bools = np.logical_and.reduceat(answered, self._begins)
        return found

    @property
    def _begins(self) -> npt.NDArray[np.intp]:
        """The first row of each text."""
        return (
            np.flatnonzero(np.diff(self.texts, prepend=-1))
            if self.texts is not None
            else np.arange(len(self.rows))
        )


def _logits(probabilities: Numbers, head: Head) -> Numbers:
    """Up to a constant of each row for softmax."""
    logits: Numbers = np.log(np.maximum(probabilities, LEAST))
    if head == "sigmoid":
        logits = logits - np.log(np.maximum(1 - probabilities, LEAST_BELOW_1))
    return logits
