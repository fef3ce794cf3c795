"""Array types of token ids, probabilities and masks, and the signature of a model call."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int32]
"""Token ids, or lengths in tokens."""

Floats: TypeAlias = npt.NDArray[np.float32]
"""Probabilities [rows, classes], or features [rows, features]."""

Bools: TypeAlias = npt.NDArray[np.bool_]
"""A mask over rows."""

RunBatch = Callable[[Sequence[Ids], int], Floats]
"""(rows of ids int32[tokens], padded length) → float32[rows, classes]. Blocks; an engine thread calls it."""
