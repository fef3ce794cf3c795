"""Compiles functions for the CPU with numba; they run without the GIL."""

from typing import Any

import numba


def compiled(function: Any) -> Any:
    """Compiles `function` at its first call. The machine code is cached in the source folder or the user's
    cache folder, and only in memory if neither can be written.
    """
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)
