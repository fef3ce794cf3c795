"""The array types that modules hand to one another."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int32]
"""Token ids, or lengths in tokens."""

Floats: TypeAlias = npt.NDArray[np.float32]
"""Probabilities [rows, classes], or features [rows, features]."""

Bools: TypeAlias = npt.NDArray[np.bool_]
"""A yes or no for each row."""


RunBatch = Callable[[Sequence[Ids], int], Floats]
"""(rows of ids, padded length) → float32[rows, classes]; called in one of the batcher's threads."""
