"""Compiles functions for the CPU with numba; they run without the GIL."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numba

SERVER = Path(__file__).parent


def compiled(function: Any) -> Any:
    """Compiles `function` at its first call. The machine code is cached in the source folder or the user's
    cache folder, and only in memory if neither can be written.

    Machine code contains the compiled functions that it calls, but numba looks only whether the file of
    `function` has changed. The name it has in the cache therefore depends on all files with compiled
    functions in its part of the server.
    """
    function.__qualname__ += f"-{_digest_of(_folder(Path(function.__code__.co_filename)))}"
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


def _folder(source: Path) -> Path:
    """The folder within which compiled functions call one another: `server/encoders`, for example."""
    within = source.relative_to(SERVER).parts if source.is_relative_to(SERVER) else ()
    return SERVER / within[0] if len(within) > 1 else source.parent


@cache
def _digest_of(folder: Path) -> str:
    """Of the files with compiled functions."""
    sources = (path.read_bytes() for path in sorted(folder.rglob("*.py")))
    return hashlib.sha256(b"".join(source for source in sources if b"compiled" in source)).hexdigest()[:12]
