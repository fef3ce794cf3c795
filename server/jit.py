"""Functions compiled for the CPU by numba, the interpreter's lock released while they run."""

from typing import Any

import numba


def compiled(function: Any) -> Any:
    """Compiled at the first call. The machine code is kept beside the function's file or in the user's cache;
    where neither can be written, in memory.
    """
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)
