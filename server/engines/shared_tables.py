"""Tables shared by several processes: written once to a folder, then memory-mapped by each."""

import shutil
from dataclasses import fields
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from server.arrays import Floats
from server.bundle import Bundle
from server.encoders.base import Tables
from server.engines.cpu_tables import read_tables


def shared_tables(bundle: Bundle, folder: Path) -> tuple[list[Tables], Floats]:
    """The same as `read_tables`, mapped from `folder`; the first process writes them there. Raises BadBundle,
    and OSError if there is no space.
    """
    home = folder / bundle.version
    if not home.exists():
        _write(*read_tables(bundle), home)
    tables = [
        _mapped(encoder.tables_type, home, position)
        for position, encoder in enumerate(bundle.encoders)
        if encoder.tables_type is not None
    ]
    return tables, _map(home / "head_bias.npy")


def _mapped(kind: type[Tables], home: Path, position: int) -> Tables:
    return kind(**{field.name: _map(home / f"{position}-{field.name}.npy") for field in fields(kind)})


def _map(file: Path) -> Any:
    # plain arrays as with tables in memory: the kernel is compiled for their type
    return np.load(file, mmap_mode="r").view(np.ndarray)


def _write(encoders: list[Tables], head_bias: Floats, home: Path) -> None:
    """Write the whole folder under a temporary name, then rename it."""
    temporary = Path(mkdtemp(dir=home.parent))
    try:
        np.save(temporary / "head_bias.npy", head_bias)
        for position, tables in enumerate(encoders):
            for field in fields(tables):
                np.save(temporary / f"{position}-{field.name}.npy", getattr(tables, field.name))
        temporary.rename(home)
    except OSError:
        shutil.rmtree(temporary)
        if not home.exists():  # else another process was first
            raise
