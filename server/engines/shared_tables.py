"""Int16 tables shared by several processes: written once to a folder, then memory-mapped by each."""

import shutil
from dataclasses import fields
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from server.bundle import Bundle
from server.engines.fixed_point_tables import Int16Tables, read_int16_tables


def shared_tables(bundle: Bundle, folder: Path) -> Int16Tables:
    """The bundle's tables, mapped from `folder`; the first process writes them there. Raises BadBundle, and
    OSError if there is no space.
    """
    home = folder / bundle.version
    if not home.exists():
        _write(read_int16_tables(bundle), home)
    # plain arrays as with tables in memory: the kernel is compiled for their type
    return Int16Tables(
        **{
            field.name: np.load(home / f"{field.name}.npy", mmap_mode="r").view(np.ndarray)
            for field in fields(Int16Tables)
        }
    )


def _write(tables: Int16Tables, home: Path) -> None:
    """Write the whole folder under a temporary name, then rename it."""
    temporary = Path(mkdtemp(dir=home.parent))
    try:
        for field in fields(tables):
            np.save(temporary / f"{field.name}.npy", getattr(tables, field.name))
        temporary.rename(home)
    except OSError:
        shutil.rmtree(temporary)
        if not home.exists():  # else another process was first
            raise
