"""The array types that modules hand to one another."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int32]
"""Token ids, or lengths in tokens."""

Floats: TypeAlias = npt.NDArray[np.float32]
"""Probabilities [rows, classes], or features [rows, features]."""

Bools: TypeAlias = npt.NDArray[np.bool_]
"""A yes or no for each row."""
